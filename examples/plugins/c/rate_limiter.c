/*
 * At most so many messages an hour from each sender's domain: "limit", 100 unless set.
 *
 * It counts when a message has been received. The table has room for 4096 domains; when it is
 * full, the one whose hour began first makes room, so that no flood of invented domains takes
 * memory. What is over the limit is deferred: it may come later. Mail without a sender (reports)
 * is never counted. Each worker of the server counts for itself.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <elemta_plugin.h>

#define ROOM 4096
#define HOUR 3600

struct entry {
    char domain[256];
    time_t began;
    unsigned count;
};

static struct entry table[ROOM];
static unsigned limit = 100;

static int init(const char *config) {
    const char *at = strstr(config, "\"limit\"");
    if (at == NULL)
        return 0;
    at += strlen("\"limit\"");
    long value = strtol(at + strspn(at, " \t\r\n:"), NULL, 10);
    if (value <= 0)
        return 1;
    limit = (unsigned)value;
    return 0;
}

static void deinit(void) {
}

static time_t seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static struct entry *find(const char *domain, time_t now) {
    struct entry *oldest = &table[0];
    for (size_t at = 0; at < ROOM; at++) {
        struct entry *each = &table[at];
        if (strcmp(each->domain, domain) == 0) {
            if (now - each->began >= HOUR) {
                each->began = now;
                each->count = 0;
            }
            return each;
        }
        if (each->domain[0] == '\0' || (oldest->domain[0] != '\0' && each->began < oldest->began))
            oldest = each;
    }
    snprintf(oldest->domain, sizeof oldest->domain, "%s", domain);
    oldest->began = now;
    oldest->count = 0;
    return oldest;
}

static int execute_hook(HookContext *context) {
    if (context->hook_type != SMTP_HOOK_MESSAGE_RECEIVED)
        return SMTP_PLUGIN_CONTINUE;
    const char *domain = context->get_metadata(context, "sender_domain");
    if (domain == NULL || domain[0] == '\0')
        return SMTP_PLUGIN_CONTINUE;
    struct entry *entry = find(domain, seconds());
    if (entry->count < limit) {
        entry->count++;
        return SMTP_PLUGIN_CONTINUE;
    }
    context->set_metadata(context, "rate_limit_exceeded", "true");
    context->set_metadata(context, "action", "defer");
    context->set_metadata(context, "reply_text", "Too much mail from this domain, try later");
    context->cancel = 1;
    return SMTP_PLUGIN_CANCEL;
}

static const char *const hooks[] = {"message_received", NULL};

static const PluginMetadata metadata = {
    .abi = ELEMTA_PLUGIN_ABI,
    .name = "rate-limiter",
    .version = "1.0.0",
    .description = "So many messages an hour from each domain",
    .license = "MIT",
    .hooks = hooks,
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
