#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/ctl.h"

static const int patience_ms = 10000;
/* A reload looks names up, may try servers, and waits for new workers. */
static const int reload_patience_ms = 120000;

const struct ctl_order ctl_orders[] = {
	{ "enable", "take it into service, whatever its settings say" },
	{ "disable", "no new connection" },
	{ "drain", "no new connection; those that are there may end" },
	{ "weight", "another share of the connections, 0 to 65535, or again that of the settings" },
};
const size_t ctl_n_orders = ARRAY_LEN(ctl_orders);

static int wrong(char *why, const char *format, const char *what)
{
	snprintf(why, CTL_WHY_SIZE, format, what);
	return -EINVAL;
}

static int add_word(struct ctl_request *request, const char *word, char *why)
{
	if (word[0] == '\0' || !ctl_add_encoded(request->path, word))
		return wrong(why, "\"%.60s\" is no name", word);
	return 0;
}

static int fill_time(struct ctl_request *request, char **words, int n, char *why)
{
	uint64_t ns;
	if (n == 0)
		return 0;
	char seconds[32];
	bool bare = words[0][0] != '\0' && strspn(words[0], "0123456789") == strlen(words[0]);
	snprintf(seconds, sizeof seconds, bare ? "%.20ss" : "%.20s", words[0]);
	if (units_parse_duration(seconds, &ns) < 0 || ns % NS_PER_S != 0)
		return wrong(why, "\"%.60s\" is not a number of seconds, or of minutes (\"5m\")", words[0]);
	snprintf(request->body, sizeof request->body, "{\"timeout\":%llu}", (unsigned long long)(ns / NS_PER_S));
	return 0;
}

static const struct ctl_order *find_order(const char *name)
{
	for (size_t i = 0; i < ctl_n_orders; i++)
		if (strcmp(ctl_orders[i].name, name) == 0)
			return &ctl_orders[i];
	return NULL;
}

const char ctl_weight_of_settings[] = "settings";

static int fill_weight(struct ctl_request *request, const char *weight, char *why)
{
	size_t length = strlen(weight);
	if (strcmp(weight, ctl_weight_of_settings) == 0) {
		ensure(text_copy(request->body, sizeof request->body, "{\"weight\":null}"));
		return 0;
	}
	if (length == 0 || length > 9 || strspn(weight, "0123456789") != length)
		return wrong(why, "\"%.60s\" is not a weight: a number, or \"settings\" for that of the settings", weight);
	snprintf(request->body, sizeof request->body, "{\"weight\":%lu}", strtoul(weight, NULL, 10));
	return 0;
}

static int fill_server(struct ctl_request *request, char **words, int n, char *why)
{
	const struct ctl_order *order = find_order(words[1]);
	if (order == NULL)
		return wrong(why, "a server can be enabled, disabled, drained, or get a weight; not \"%.60s\"", words[1]);
	bool with_weight = strcmp(order->name, "weight") == 0;
	if (with_weight != (n == 3))
		return wrong(why,
		        with_weight ? "which weight? server %.60s weight N, or: weight settings"
		                    : "nothing stands behind the order; there is \"%.60s\"",
		        with_weight ? words[0] : words[2]);
	int rc = add_word(request, words[0], why);
	if (rc == 0 && (strlen(request->path) + strlen(order->name) + 2 > sizeof request->path))
		rc = wrong(why, "\"%.60s\" is no name", words[0]);
	if (rc < 0)
		return rc;
	strcat(strcat(request->path, "/"), order->name);
	return with_weight ? fill_weight(request, words[2], why) : 0;
}

const char *const ctl_filters[] = { "client", "listener", "server", "limit" };
const size_t ctl_n_filters = ARRAY_LEN(ctl_filters);

static int fill_filters(struct ctl_request *request, char **words, int n, char *why)
{
	for (int i = 0; i < n; i++) {
		char key[16];
		size_t length = strcspn(words[i], "="), k = 0;
		snprintf(key, sizeof key, "%.*s", (int)length, words[i]);
		while (k < ctl_n_filters && strcmp(ctl_filters[k], key) != 0)
			k++;
		if (k == ctl_n_filters || words[i][length] == '\0')
			return wrong(why, "\"%.60s\" is none of client=ADDRESS, listener=NAME, server=NAME and limit=N", words[i]);
		if (strlen(request->path) + sizeof key + 3 > sizeof request->path)
			return wrong(why, "\"%.60s\" is too much", words[i]);
		strcat(strcat(strcat(request->path, i == 0 ? "?" : "&"), key), "=");
		int rc = add_word(request, words[i] + length + 1, why);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int fill_word(struct ctl_request *request, char **words, int n, char *why)
{
	(void)n;
	return add_word(request, words[0], why);
}

static int fill_certificates(struct ctl_request *request, char **words, int n, char *why)
{
	(void)request;
	(void)n;
	return strcmp(words[0], "reload") == 0 ? 0 : wrong(why, "certificates can be reloaded; not \"%.60s\"", words[0]);
}

const struct ctl_verb ctl_verbs[] = {
	{ .name = "status",
	        .arguments = "",
	        .help = "what runs, what it counts, and since when",
	        .method = "GET",
	        .path = "/status",
	        .print = ctl_print_status,
	        .timeout_ms = patience_ms },
	{ .name = "health",
	        .arguments = "",
	        .help = "whether clients can be served; exit code 3 when they cannot",
	        .method = "GET",
	        .path = "/health",
	        .print = ctl_print_health,
	        .timeout_ms = patience_ms },
	{ .name = "reload",
	        .arguments = "",
	        .help = "take the settings over; says what changed, or every error",
	        .method = "POST",
	        .path = "/reload",
	        .print = ctl_print_state,
	        .timeout_ms = reload_patience_ms },
	{ .name = "certs",
	        .arguments = "reload",
	        .help = "read certificates and keys again, without new workers",
	        .method = "POST",
	        .path = "/certs/reload",
	        .min_words = 1,
	        .max_words = 1,
	        .words = { CTL_WORD_RELOAD },
	        .fill = fill_certificates,
	        .print = ctl_print_certificates,
	        .timeout_ms = reload_patience_ms },
	{ .name = "drain",
	        .arguments = "[SECONDS]",
	        .help = "accept no more; what is still open after so long is closed",
	        .method = "POST",
	        .path = "/drain",
	        .max_words = 1,
	        .words = { CTL_WORD_TIME },
	        .fill = fill_time,
	        .print = ctl_print_state,
	        .timeout_ms = patience_ms },
	{ .name = "undrain",
	        .arguments = "",
	        .help = "accept again",
	        .method = "POST",
	        .path = "/undrain",
	        .print = ctl_print_state,
	        .timeout_ms = reload_patience_ms },
	{ .name = "servers",
	        .arguments = "",
	        .help = "the servers: what state they are in, and why",
	        .method = "GET",
	        .path = "/servers",
	        .print = ctl_print_servers,
	        .timeout_ms = patience_ms },
	{ .name = "server",
	        .arguments = "NAME enable|disable|drain|weight N|weight settings",
	        .help = "put a server into service or out of it, by hand",
	        .method = "POST",
	        .path = "/servers/",
	        .min_words = 2,
	        .max_words = 3,
	        .words = { CTL_WORD_SERVER, CTL_WORD_ORDER, CTL_WORD_WEIGHT },
	        .fill = fill_server,
	        .print = ctl_print_server,
	        .timeout_ms = patience_ms },
	{ .name = "connections",
	        .arguments = "[FILTER ...]",
	        .help = "the connections that are open: how far, how old, how much",
	        .method = "GET",
	        .path = "/connections",
	        .max_words = 4,
	        .words = { CTL_WORD_FILTER, CTL_WORD_FILTER, CTL_WORD_FILTER, CTL_WORD_FILTER },
	        .fill = fill_filters,
	        .print = ctl_print_connections,
	        .timeout_ms = patience_ms },
	{ .name = "kill",
	        .arguments = "ID",
	        .help = "end a connection, by its id in that list",
	        .method = "DELETE",
	        .path = "/connections/",
	        .min_words = 1,
	        .max_words = 1,
	        .words = { CTL_WORD_CONNECTION },
	        .fill = fill_word,
	        .print = ctl_print_killed,
	        .timeout_ms = patience_ms },
	{ .name = "why",
	        .arguments = "ADDRESS",
	        .help = "what became of the last connections of a client, step by step",
	        .method = "GET",
	        .path = "/why?address=",
	        .min_words = 1,
	        .max_words = 1,
	        .words = { CTL_WORD_CLIENT },
	        .fill = fill_word,
	        .print = ctl_print_why,
	        .timeout_ms = patience_ms },
	{ .name = "reset",
	        .arguments = "",
	        .help = "forget what was learnt of servers, and what was set by hand",
	        .method = "POST",
	        .path = "/reset",
	        .print = ctl_print_reset,
	        .timeout_ms = patience_ms },
};
const size_t ctl_n_verbs = ARRAY_LEN(ctl_verbs);

const struct ctl_verb *ctl_find_verb(const char *name)
{
	for (size_t i = 0; i < ctl_n_verbs; i++)
		if (strcmp(ctl_verbs[i].name, name) == 0)
			return &ctl_verbs[i];
	return NULL;
}

int ctl_make_request(const struct ctl_verb *verb, char **words, int n, struct ctl_request *out, char *why)
{
	struct ctl_request request = { .body = "" };
	ensure(text_copy(request.path, sizeof request.path, verb->path));
	if (n < verb->min_words || n > verb->max_words) {
		snprintf(why, CTL_WHY_SIZE, "write: aegisctl %s%s%s", verb->name, verb->arguments[0] != '\0' ? " " : "", verb->arguments);
		return -EINVAL;
	}
	int rc = verb->fill == NULL ? 0 : verb->fill(&request, words, n, why);
	if (rc == 0)
		*out = request;
	return rc;
}

void ctl_print_help(FILE *out)
{
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		const struct ctl_verb *verb = &ctl_verbs[i];
		char call[64];
		snprintf(call, sizeof call, "%s %s", verb->name, verb->arguments);
		fprintf(out, strlen(call) > 19 ? "  %s\n%22s%s\n" : "  %-19s %s%s\n", call, "", verb->help);
	}
}

/* "NAME enable|weight N" in mdoc: what a user types as it stands, and what stands for something. */
static void print_manual_arguments(const char *arguments, FILE *out)
{
	for (const char *c = arguments; *c != '\0';) {
		size_t length = strspn(c, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
		if (length > 0) {
			fputs(" Ar ", out);
			for (size_t i = 0; i < length; i++)
				fputc(c[i] - 'A' + 'a', out);
		} else if (*c == '[' || *c == ']') {
			fputs(*c == '[' ? " Oo" : " Oc", out);
			length = 1;
		} else if (*c == ' ' || *c == '|') {
			fputs(*c == '|' ? " |" : "", out);
			length = 1;
		} else {
			length = strcspn(c, " |[]");
			fprintf(out, " Cm %.*s", (int)length, c);
		}
		c += length;
	}
}

void ctl_print_manual(FILE *out)
{
	fputs(".Bl -tag -width \"connections\"\n", out);
	for (size_t i = 0; i < ctl_n_verbs; i++) {
		fprintf(out, ".It Cm %s", ctl_verbs[i].name);
		print_manual_arguments(ctl_verbs[i].arguments, out);
		fprintf(out, "\n%c%s.\n", ctl_verbs[i].help[0] - 'a' + 'A', ctl_verbs[i].help + 1);
		if (ctl_verbs[i].words[1] != CTL_WORD_ORDER)
			continue;
		fputs(".Bl -tag -width \"disable\"\n", out);
		for (size_t k = 0; k < ctl_n_orders; k++)
			fprintf(out, ".It Cm %s%s\n%c%s.\n", ctl_orders[k].name,
			        strcmp(ctl_orders[k].name, "weight") == 0 ? " Ar n | Cm settings" : "", ctl_orders[k].help[0] - 'a' + 'A',
			        ctl_orders[k].help + 1);
		fputs(".El\n", out);
	}
	fputs(".El\n", out);
}
