/*
 * Refuses mail in which too many words of spam are found: as many as spam_threshold, 5 unless set.
 * With "quarantine": true it is kept for an operator to look at instead.
 *
 * The first megabyte is looked at, as it was sent: encoded text is not decoded. Upper and lower
 * case are the same.
 */

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <elemta_plugin.h>

static const char *const words[] = {
    "viagra", "casino", "winner", "free money", "click here", "limited time", "act now",
    "congratulations",
};

static double threshold = 5.0;
static int quarantine;

/* The value of a key in a flat JSON object; NULL where it is not there. */
static const char *value_of(const char *json, const char *key) {
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\"", key);
    const char *at = strstr(json, quoted);
    if (at == NULL)
        return NULL;
    at += strlen(quoted);
    return at + strspn(at, " \t\r\n:");
}

static int init(const char *config) {
    const char *value = value_of(config, "spam_threshold");
    if (value != NULL) {
        char *end;
        threshold = strtod(value, &end);
        if (end == value || threshold <= 0)
            return 1;
    }
    value = value_of(config, "quarantine");
    quarantine = value != NULL && strncmp(value, "true", 4) == 0;
    return 0;
}

static void deinit(void) {
}

static int contains(const char *text, size_t length, const char *word) {
    size_t wanted = strlen(word);
    for (size_t at = 0; at + wanted <= length; at++) {
        size_t same = 0;
        while (same < wanted && tolower((unsigned char)text[at + same]) == word[same])
            same++;
        if (same == wanted)
            return 1;
    }
    return 0;
}

static int execute_hook(HookContext *context) {
    if (context->hook_type != SMTP_HOOK_MESSAGE_FILTERED)
        return SMTP_PLUGIN_CONTINUE;
    size_t length;
    const char *body = context->get_data(context, "message_body", &length);
    if (body == NULL)
        return SMTP_PLUGIN_CONTINUE;

    double score = 0.0;
    for (size_t at = 0; at < sizeof words / sizeof *words; at++)
        score += contains(body, length, words[at]);
    char text[32];
    snprintf(text, sizeof text, "%.1f", score);
    context->set_metadata(context, "spam_score", text);
    context->edit(context, SMTP_EDIT_REPLACE_HEADER, "X-Spam-Score", text);
    if (score < threshold)
        return SMTP_PLUGIN_CONTINUE;

    context->set_metadata(context, "is_spam", "true");
    context->set_metadata(context, "note", text);
    context->set_metadata(context, "reply_text", "Message looks like spam");
    if (quarantine)
        context->set_metadata(context, "action", "quarantine");
    context->log(context, "info", "spam");
    return SMTP_PLUGIN_STOP;
}

static const char *const hooks[] = {"message_filtered", NULL};

static const PluginMetadata metadata = {
    .abi = ELEMTA_PLUGIN_ABI,
    .name = "spam-filter",
    .version = "1.0.0",
    .description = "Refuses mail with words of spam",
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
