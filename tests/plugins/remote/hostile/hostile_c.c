/* A plugin that does what the sender's local part says. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <elemta_plugin.h>

static HookContext *asked;

static int init(const char *config) {
    return strstr(config, "\"refuse\"") != NULL;
}

static void deinit(void) {
}

/* 7 is no return code: the hook fails. 0 lets the mail pass. */
static int refused(long result) {
    if (result >= 0)
        return 0;
    asked->log(asked, "warning", strerror(errno));
    return 7;
}

static int dial(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(25)};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int line = socket(AF_INET, SOCK_STREAM, 0);
    return line < 0 ? line : connect(line, (struct sockaddr *)&address, sizeof address);
}

static int do_deed(const char *deed) {
    if (strcmp(deed, "segfault") == 0)
        *(volatile int *)16 = 1;
    if (strcmp(deed, "abort") == 0)
        abort();
    if (strcmp(deed, "exit") == 0)
        _exit(0);
    if (strcmp(deed, "spin") == 0)
        for (volatile int at = 0;; at++)
            ;
    if (strcmp(deed, "hang") == 0)
        for (;;)
            pause();
    if (strcmp(deed, "memory") == 0)
        return refused(malloc(2UL << 30) == NULL ? -1 : 0);
    if (strcmp(deed, "map") == 0)
        return refused(
            mmap(NULL, 2UL << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                    MAP_FAILED
                ? -1
                : 0);
    if (strcmp(deed, "fork") == 0)
        return refused(fork());
    if (strcmp(deed, "exec") == 0)
        return refused(execl("/bin/true", "true", NULL));
    if (strcmp(deed, "system") == 0)
        return refused(system("true") == 0 ? 0 : -1);
    if (strcmp(deed, "shadow") == 0)
        return refused(open("/etc/shadow", O_RDONLY));
    if (strcmp(deed, "connect") == 0)
        return refused(dial());
    if (strcmp(deed, "kill") == 0)
        return refused(kill(getppid(), SIGKILL));
    if (strcmp(deed, "garbage") == 0)
        return 4711;
    if (strcmp(deed, "nonsense") == 0) {
        asked->set_metadata(asked, "action", "rejoice");
        return SMTP_PLUGIN_STOP;
    }
    if (strcmp(deed, "code") == 0) {
        asked->set_metadata(asked, "reply_code", "250");
        return SMTP_PLUGIN_STOP;
    }
    if (strcmp(deed, "both") == 0) {
        asked->set_metadata(asked, "action", "accept");
        return SMTP_PLUGIN_STOP;
    }
    if (strcmp(deed, "cancel") == 0)
        asked->cancel = 1;
    if (strcmp(deed, "crlf") == 0)
        return asked->edit(asked, SMTP_EDIT_ADD_HEADER, "X", "a\r\nBcc: b@example.test") ? 7 : 0;
    return SMTP_PLUGIN_CONTINUE;
}

static int execute_hook(HookContext *context) {
    const char *sender = context->get_metadata(context, "sender");
    char deed[64] = "";
    if (sender != NULL && strchr(sender, '@') != NULL)
        strncat(deed, sender, (size_t)(strchr(sender, '@') - sender) % sizeof deed);
    asked = context;
    return do_deed(deed);
}

static const char *const hooks[] = {"on_mail_from", NULL};

static const PluginMetadata metadata = {
    .abi = ELEMTA_PLUGIN_ABI, .name = "hostile-c", .version = "6.6.6", .hooks = hooks,
};

static const PluginMetadata *get_metadata(void) {
    return &metadata;
}

static const PluginInterface interface = {
    .init = init,
    .deinit = deinit,
    .get_metadata = get_metadata,
    .execute_hook = execute_hook,
};

const PluginInterface *smtp_plugin_get_interface(void) {
    return &interface;
}
