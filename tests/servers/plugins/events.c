/* A library that has all hooks with an event name, and logs each: its number, its name, and what
 * is known of the mail. */

#include <stdio.h>

#include <elemta_plugin.h>

static int init(const char *config) {
    (void)config;
    return 0;
}

static void deinit(void) {
}

static const char *known(HookContext *context, const char *name) {
    const char *value = context->get_metadata(context, name);
    return value == NULL ? "-" : value;
}

static int execute_hook(HookContext *context) {
    char text[500];
    snprintf(text, sizeof text, "%u %s %s %s %s %s", context->hook_type, context->hook_name,
             known(context, "command"), known(context, "sender"), known(context, "recipients"),
             known(context, "subject"));
    context->log(context, "info", text);
    return SMTP_PLUGIN_CONTINUE;
}

static const PluginMetadata metadata = {
    .abi = ELEMTA_PLUGIN_ABI,
    .name = "events",
    .version = "1.0.0",
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
