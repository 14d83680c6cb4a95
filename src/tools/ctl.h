/* aegisctl: ask and steer a running instance through its admin interface (DIR/admin.sock).
 *
 * Process: aegisctl, beside the daemon.
 * The verbs are rows of one table (ctl_verbs.c): help, the manual's list and what the shells complete are made from it. A verb is a request
 * and a way to print the answer; -j prints the answer as it came.
 */
#ifndef AEGIS_TOOLS_CTL_H
#define AEGIS_TOOLS_CTL_H

#include <stdbool.h>
#include <stdio.h>

#include "tools/ctl_call.h"
#include "tools/tree.h"

/* The exit codes, as in the manual page. */
enum ctl_exit { CTL_OK = 0, CTL_ARGUMENTS = 1, CTL_REFUSED = 3, CTL_NOT_RUNNING = 4 };

/* What may stand behind a verb. */
enum ctl_word {
	CTL_WORD_NONE,
	CTL_WORD_SERVER,
	CTL_WORD_ORDER,
	CTL_WORD_WEIGHT,
	CTL_WORD_CONNECTION,
	CTL_WORD_CLIENT,
	CTL_WORD_TIME,
	CTL_WORD_FILTER,
	CTL_WORD_RELOAD
};

enum { CTL_MAX_WORDS = 4, CTL_BODY_SIZE = 128, CTL_WHY_SIZE = 256 };

struct ctl_request {
	char path[CTL_PATH_SIZE];
	char body[CTL_BODY_SIZE]; /* "" = none */
};

struct ctl_verb {
	const char *name, *arguments, *help;
	const char *method, *path;
	int min_words, max_words;
	enum ctl_word words[CTL_MAX_WORDS];
	/* Adds the words to the path, or to the body; 0, or -EINVAL and *why. NULL where a verb takes no words. */
	int (*fill)(struct ctl_request *request, char **words, int n, char *why);
	/* The answer, for people; words are those that were asked with. */
	void (*print)(const struct tree *answer, char **words, FILE *out);
	int timeout_ms;
};

extern const struct ctl_verb ctl_verbs[];
extern const size_t ctl_n_verbs;

/* What can be done with a server: the words that stand behind its name. */
struct ctl_order {
	const char *name, *help;
};
extern const struct ctl_order ctl_orders[];
extern const size_t ctl_n_orders;
/* What stands in the place of a weight for: as the settings say. */
extern const char ctl_weight_of_settings[];

/* What the list of connections can be asked for: KEY=VALUE. */
extern const char *const ctl_filters[];
extern const size_t ctl_n_filters;

/* The verb of that name, or NULL. */
const struct ctl_verb *ctl_find_verb(const char *name);
/* Make the request of a verb. 0, or -EINVAL and *why (CTL_WHY_SIZE), a line for the user. */
must_check int ctl_make_request(const struct ctl_verb *verb, char **words, int n, struct ctl_request *out, char *why);

/* The verbs as help (indented lines), and as the list of the manual page (mdoc). */
void ctl_print_help(FILE *out);
void ctl_print_manual(FILE *out);

/* Answers for people. */
void ctl_print_status(const struct tree *answer, char **words, FILE *out);
void ctl_print_health(const struct tree *answer, char **words, FILE *out);
void ctl_print_servers(const struct tree *answer, char **words, FILE *out);
void ctl_print_connections(const struct tree *answer, char **words, FILE *out);
void ctl_print_why(const struct tree *answer, char **words, FILE *out);
void ctl_print_server(const struct tree *answer, char **words, FILE *out);
/* Of reload, drain and undrain. */
void ctl_print_state(const struct tree *answer, char **words, FILE *out);
void ctl_print_killed(const struct tree *answer, char **words, FILE *out);
void ctl_print_certificates(const struct tree *answer, char **words, FILE *out);
void ctl_print_reset(const struct tree *answer, char **words, FILE *out);

/* The script that makes a shell ("bash", "zsh", "fish") complete; false for another shell. */
must_check bool ctl_print_completion(const char *shell, FILE *out);
/* What may stand at the end of a command line: a line for each word that begins with the last of words, a tab, and what it means. Asks the
 * instance for names; silent when none answers. */
void ctl_complete(char **words, int n, const char *dir, FILE *out);

/* DIR/admin.sock; false when that is too long a path. */
must_check bool ctl_socket_path(const char *dir, char *out, size_t size);

#endif
