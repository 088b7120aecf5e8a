/*
 * Has ClamAV's clamd look at each message, over its unix socket, by INSTREAM.
 *
 * The socket is fixed when this is compiled, because a plugin may only connect where its metadata
 * says: cc -DCLAMD_SOCKET='"/run/clamav/clamd.ctl"' ...
 *
 * Infected mail goes to the quarantine. When clamd cannot be asked the hook fails, and the mail
 * has to wait: nothing passes unscanned.
 */

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <elemta_plugin.h>

#ifndef CLAMD_SOCKET
#define CLAMD_SOCKET "/run/clamav/clamd.ctl"
#endif

#define FAILED (-1)

/* A "clamav_socket" in the settings has to be the one that this was made for. */
static int init(const char *config) {
    const char *key = strstr(config, "\"clamav_socket\"");
    if (key == NULL)
        return 0;
    const char *value = key + strlen("\"clamav_socket\"");
    value += strspn(value, " \t\r\n:");
    static const char made_for[] = "\"" CLAMD_SOCKET "\"";
    return strncmp(value, made_for, sizeof made_for - 1) == 0 ? 0 : 1;
}

static void deinit(void) {
}

static int dial(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", CLAMD_SOCKET);
    int line = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (line >= 0 && connect(line, (struct sockaddr *)&address, sizeof address) != 0) {
        close(line);
        return -1;
    }
    return line;
}

static int send_all(int line, const void *data, size_t length) {
    const char *at = data;
    while (length > 0) {
        ssize_t done = send(line, at, length, MSG_NOSIGNAL);
        if (done <= 0)
            return -1;
        at += done;
        length -= (size_t)done;
    }
    return 0;
}

/* Send a file piece by piece, each with its length before it, and read what clamd says. */
static int scan(int line, int file, char *answer, size_t room) {
    char piece[65536];
    ssize_t got;
    if (send_all(line, "zINSTREAM", 10) != 0)
        return -1;
    while ((got = read(file, piece, sizeof piece)) > 0) {
        uint32_t length = htonl((uint32_t)got);
        if (send_all(line, &length, sizeof length) != 0 || send_all(line, piece, (size_t)got) != 0)
            return -1;
    }
    uint32_t end = 0;
    if (got < 0 || send_all(line, &end, sizeof end) != 0)
        return -1;
    size_t length = 0;
    while (length < room && (got = recv(line, answer + length, room - length, 0)) > 0) {
        length += (size_t)got;
        if (answer[length - 1] == '\0')
            return 0;
    }
    return -1; /* what does not end as it should is no answer */
}

static int judge(HookContext *context, char *answer) {
    size_t length = strlen(answer);
    if (strcmp(answer, "stream: OK") == 0)
        return SMTP_PLUGIN_CONTINUE;
    if (length < 6 || strcmp(answer + length - 6, " FOUND") != 0)
        return FAILED;
    answer[length - 6] = '\0';
    const char *name = strstr(answer, ": ");
    name = name == NULL ? answer : name + 2;
    context->set_metadata(context, "virus_name", name);
    context->set_metadata(context, "infected", "true");
    context->set_metadata(context, "action", "quarantine");
    context->set_metadata(context, "note", name);
    context->cancel = 1;
    return SMTP_PLUGIN_CANCEL;
}

static int execute_hook(HookContext *context) {
    if (context->hook_type != SMTP_HOOK_MESSAGE_FILTERED)
        return SMTP_PLUGIN_CONTINUE;
    const char *path = context->get_metadata(context, "message_path");
    if (path == NULL)
        return FAILED;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    int line = dial();
    char answer[1024];
    int result = FAILED;
    if (file >= 0 && line >= 0 && scan(line, file, answer, sizeof answer) == 0)
        result = judge(context, answer);
    if (file >= 0)
        close(file);
    if (line >= 0)
        close(line);
    return result;
}

static const char *const hooks[] = {"message_filtered", NULL};
static const char *const network[] = {"unix:" CLAMD_SOCKET, NULL};

static const PluginMetadata metadata = {
    .abi = ELEMTA_PLUGIN_ABI,
    .name = "virus-scanner",
    .version = "1.0.0",
    .description = "Has clamd look at each message",
    .license = "MIT",
    .hooks = hooks,
    .network = network,
    .threads = 8,
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
