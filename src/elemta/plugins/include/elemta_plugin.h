/*
 * Plugins for Elemta in C, or in any language that can make a shared library.
 *
 * A plugin is a library with one function, smtp_plugin_get_interface. It runs in a process of its
 * own, so that nothing it does can hurt the server:
 *
 *     cc -shared -fPIC -I"$(dirname "$(elemta plugins header)")" -o libmine.so mine.c
 *
 * All text is UTF-8 and ends with a NUL. What the plugin hands over (interface, metadata) must
 * stay where it is: make it static. What it is handed is its own until execute_hook returns.
 */

#ifndef ELEMTA_PLUGIN_H
#define ELEMTA_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ELEMTA_PLUGIN_ABI 1

/* What execute_hook returns. Anything else is a failure of the plugin. */
#define SMTP_PLUGIN_CONTINUE 0
#define SMTP_PLUGIN_STOP 1   /* stop and block: refuse, unless the metadata "action" says more */
#define SMTP_PLUGIN_CANCEL 2 /* the same, and cancel is set */

typedef enum SmtpHookType {
    SMTP_HOOK_OTHER = 0, /* look at hook_name */
    SMTP_HOOK_MESSAGE_RECEIVED = 1,
    SMTP_HOOK_MESSAGE_VALIDATED = 2,
    SMTP_HOOK_MESSAGE_FILTERED = 3,
    SMTP_HOOK_MESSAGE_STORED = 4,
    SMTP_HOOK_MESSAGE_DELIVERED = 5,
    SMTP_HOOK_AUTH_STARTED = 6,
    SMTP_HOOK_AUTH_COMPLETED = 7,
    SMTP_HOOK_AUTH_FAILED = 8,
    SMTP_HOOK_CONNECTION_OPENED = 9,
    SMTP_HOOK_CONNECTION_CLOSED = 10,
    SMTP_HOOK_CONNECTION_UPGRADED = 11,
    SMTP_HOOK_COMMAND_RECEIVED = 12,
    SMTP_HOOK_COMMAND_VALIDATED = 13,
    SMTP_HOOK_CONFIG_LOADED = 14,
    SMTP_HOOK_CONFIG_CHANGED = 15,
    SMTP_HOOK_SERVER_STARTING = 16,
    SMTP_HOOK_SERVER_STARTED = 17,
    SMTP_HOOK_SERVER_STOPPING = 18,
    SMTP_HOOK_SERVER_STOPPED = 19
} SmtpHookType;

/* Changes of the message, for the hooks that may make them. */
typedef enum SmtpEdit {
    SMTP_EDIT_ADD_HEADER = 1,       /* name, value */
    SMTP_EDIT_REPLACE_HEADER = 2,   /* name, value */
    SMTP_EDIT_REMOVE_HEADER = 3,    /* name */
    SMTP_EDIT_ADD_RECIPIENT = 4,    /* address */
    SMTP_EDIT_REMOVE_RECIPIENT = 5, /* address */
    SMTP_EDIT_CHANGE_SENDER = 6,    /* address, "" for the null path */
    SMTP_EDIT_RENAME_HEADER = 7,    /* name, new name */
    /* what becomes of one recipient, whatever becomes of the others */
    SMTP_EDIT_QUARANTINE_RECIPIENT = 8, /* address, note */
    SMTP_EDIT_REDIRECT_RECIPIENT = 9,   /* address, who gets it instead */
    SMTP_EDIT_REJECT_RECIPIENT = 10,    /* address, what the sender is told; "" for the usual */
    SMTP_EDIT_DISCARD_RECIPIENT = 11    /* address, note */
} SmtpEdit;

typedef struct HookContext HookContext;

struct HookContext {
    uint32_t hook_type;    /* SmtpHookType */
    int32_t cancel;        /* set it to 1 and the mail or session is refused, as by CANCEL */
    const char *hook_name; /* "message_filtered"; for hooks without such a name "on_rcpt_to"... */

    /* What is known, or was left by other plugins; NULL where there is nothing:
     * message_body (the first megabyte), message_path (a file with the whole message),
     * message_size, queue_id, message_id, subject, sender, sender_domain, recipient, recipients
     * (separated by commas), client_ip, helo, username, password (auth_started), mechanism,
     * tls_version, protocol, listener, session_id, command, argument, destination, attempts,
     * reply, state. */
    const char *(*get_metadata)(HookContext *context, const char *name);

    /* The same with its length: only so a message with NUL octets is seen whole. */
    const void *(*get_data)(HookContext *context, const char *name, size_t *length);

    /* Leave something for other plugins; 0 if that was possible. Some names have a meaning:
     * action ("reject", "defer", "quarantine", "discard", "accept", "continue"),
     * reply_code ("550"), enhanced_code ("5.7.1"), reply_text, note (for the operator). */
    int (*set_metadata)(HookContext *context, const char *name, const char *value);

    /* Change the message; 0 if that was possible. */
    int (*edit)(HookContext *context, uint32_t edit, const char *name, const char *value);

    /* Write a line to the plugin's log: "debug", "info", "warning" or "error". */
    void (*log)(HookContext *context, const char *level, const char *text);

    void *server; /* not yours */
};

/* Lists end with NULL; a NULL instead of a text or a list is an empty one. */
typedef struct PluginMetadata {
    uint32_t abi; /* ELEMTA_PLUGIN_ABI */
    const char *name;
    const char *version;
    const char *author;
    const char *description;
    const char *license;
    const char *const *dependencies;
    const char *min_server_version;
    const char *max_server_version;
    const char *const *hooks;   /* those wanted: "message_filtered", "on_rcpt_to"... */
    const char *const *network; /* what it connects to: "unix:/run/clamd.sock", "host:3310", "*" */
    const char *const *files;   /* what it reads; "/path:rw" to write */
    uint32_t threads; /* calls that may be made at the same time; 0 and 1: one after the other */
} PluginMetadata;

typedef struct PluginInterface {
    int (*init)(const char *config); /* a JSON object; 0 if it can work with it */
    void (*deinit)(void);
    const PluginMetadata *(*get_metadata)(void);
    int (*execute_hook)(HookContext *context);
    int (*enable)(void);  /* 0 for success; may be NULL */
    int (*disable)(void); /* the same */
} PluginInterface;

/* The only function that must be visible. What it gives must be static. */
const PluginInterface *smtp_plugin_get_interface(void);

#ifdef __cplusplus
}
#endif

#endif
