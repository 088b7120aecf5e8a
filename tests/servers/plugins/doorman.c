/* doorman.py as a library. */

#include <stdio.h>
#include <string.h>

#include <elemta_plugin.h>

static const char *const actions[] = {"continue", "accept",  "reject",
                                      "defer",    "discard", "quarantine"};

static int init(const char *config) {
    (void)config;
    return 0;
}

static void deinit(void) {
}

static const char *known(HookContext *context, const char *name) {
    const char *value = context->get_metadata(context, name);
    return value == NULL || *value == '\0' ? "-" : value;
}

static void tell(HookContext *context) {
    const char *password = context->get_metadata(context, "password");
    char text[500];
    snprintf(text, sizeof text, "%s %s %s %s %zu %s %s", known(context, "client_ip"),
             context->hook_name, known(context, "username"), known(context, "mechanism"),
             password == NULL ? 0 : strlen(password), known(context, "tls_version"),
             known(context, "helo"));
    context->log(context, "info", text);
}

static int act(HookContext *context, const char *action, size_t length) {
    for (size_t i = 1; i < sizeof actions / sizeof *actions; i++) {
        if (strlen(actions[i]) == length && strncmp(actions[i], action, length) == 0) {
            context->set_metadata(context, "action", actions[i]);
            context->set_metadata(context, "note", "as asked");
            context->set_metadata(context, "reply_text", i == 3 ? "Not now" : "Not you");
        }
    }
    return SMTP_PLUGIN_CONTINUE;
}

static int execute_hook(HookContext *context) {
    tell(context);
    switch (context->hook_type) {
    case SMTP_HOOK_CONNECTION_UPGRADED: {
        unsigned number;
        if (sscanf(known(context, "client_ip"), "127.2.%*u.%u", &number) == 1) {
            return act(context, actions[number], strlen(actions[number]));
        }
        return SMTP_PLUGIN_CONTINUE;
    }
    case SMTP_HOOK_AUTH_STARTED:
    case SMTP_HOOK_AUTH_COMPLETED:
    case SMTP_HOOK_AUTH_FAILED: {
        const char *name = known(context, "username");
        const char *dot = strchr(name, '.');
        int is_first = context->hook_type == SMTP_HOOK_AUTH_STARTED;
        if (dot != NULL && strcmp(dot, is_first ? ".start" : ".end") == 0) {
            return act(context, name, (size_t)(dot - name));
        }
        return SMTP_PLUGIN_CONTINUE;
    }
    default:
        return SMTP_PLUGIN_CONTINUE;
    }
}

static const char *const hooks[] = {"connection_opened", "connection_upgraded", "auth_started",
                                    "auth_completed", NULL};
static const PluginMetadata metadata = {
    .abi = ELEMTA_PLUGIN_ABI,
    .name = "doorman",
    .version = "1.0.0",
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
