#include <string.h>

#include "base/text.h"
#include "tools/ctl.h"

/* The shells know nothing of the verbs: they ask `aegisctl --complete` what may stand at the end, and it looks into the table. */

/* Of the line up to the cursor, because COMP_WORDS is cut at ':' too, of which the names of servers are full, and has quotes in it. What
 * readline replaces begins behind the last such cut (cut). Nobody but this quotes what is inserted: a name may hold "$(...)". */
static const char bash_script[] =
        "# bash completion for aegisctl, written by `aegisctl --completion bash`\n"
        "_aegisctl() {\n"
        "\tlocal line=${COMP_LINE:0:COMP_POINT} words=() word= quote= open= cut=0 i c next row\n"
        "\tfor ((i = 0; i < ${#line}; i++)); do\n"
        "\t\tc=${line:i:1} next=${line:i+1:1}\n"
        "\t\tif [[ $c == \\\\ && $quote != \\' && ( -z $quote || $next == [\\$\\`\\\"\\\\] ) ]]; then\n"
        "\t\t\tword+=$next open=1\n"
        "\t\t\t((++i))\n"
        "\t\telif [[ $c == \"$quote\" ]]; then\n"
        "\t\t\tquote= cut=${#word}\n"
        "\t\telif [[ -n $quote ]]; then\n"
        "\t\t\tword+=$c\n"
        "\t\telif [[ $c == [\\'\\\"] ]]; then\n"
        "\t\t\tquote=$c open=1 cut=${#word}\n"
        "\t\telif [[ $c == [[:space:]] ]]; then\n"
        "\t\t\t[[ -z $open ]] || words+=(\"$word\")\n"
        "\t\t\tword= open= cut=0\n"
        "\t\telse\n"
        "\t\t\tword+=$c open=1\n"
        "\t\t\t[[ $COMP_WORDBREAKS != *\"$c\"* ]] || cut=${#word}\n"
        "\t\tfi\n"
        "\tdone\n"
        "\twords+=(\"$word\")\n"
        "\tCOMPREPLY=()\n"
        "\twhile IFS= read -r row; do\n"
        "\t\trow=${row%%$'\\t'*}\n"
        "\t\trow=${row:cut}\n"
        "\t\tcase $quote in\n"
        "\t\t\\') row=${row//\\'/\\'\\\\\\'\\'} ;;\n"
        "\t\t\\\") [[ $row != *!* ]] || continue\n"
        "\t\t\trow=${row//\\\\/\\\\\\\\} row=${row//\\$/\\\\\\$} row=${row//\\`/\\\\\\`} row=${row//\\\"/\\\\\\\"} ;;\n"
        "\t\t*) [[ -z $row ]] || printf -v row %q \"$row\" ;;\n"
        "\t\tesac\n"
        "\t\tCOMPREPLY+=(\"$row\")\n"
        "\tdone < <(\"${words[0]}\" --complete \"${words[@]:1}\" 2>/dev/null)\n"
        "}\n"
        "complete -F _aegisctl aegisctl\n";

/* zsh and fish quote what they insert by themselves. */
static const char zsh_script[] =
        "#compdef aegisctl\n"
        "# zsh completion for aegisctl, written by `aegisctl --completion zsh`\n"
        "_aegisctl() {\n"
        "\tlocal -a rows\n"
        "\trows=(\"${(@f)$(\"${(Q)words[1]}\" --complete \"${(@Q)words[2,CURRENT-1]}\" \"${(Q)PREFIX}\" 2>/dev/null)}\")\n"
        "\trows=(\"${(@)rows:#}\")\n"
        "\trows=(\"${(@)rows//\\\\/\\\\\\\\}\")\n"
        "\trows=(\"${(@)rows//:/\\\\:}\")\n"
        "\trows=(\"${(@)rows/$'\\t'/:}\")\n"
        "\t_describe aegisctl rows\n"
        "}\n"
        "if [ \"$funcstack[1]\" = _aegisctl ]; then _aegisctl \"$@\"; else compdef _aegisctl aegisctl; fi\n";

/* fish chooses from all that may stand there, since what is typed may have quotes in it. */
static const char fish_script[] = "# fish completion for aegisctl, written by `aegisctl --completion fish`\n"
                                  "function __aegisctl_complete\n"
                                  "\tset -l words (commandline -opc)\n"
                                  "\tset -l last (commandline -ct)\n"
                                  "\tstring match -q -- '-*' $last; or set last ''\n"
                                  "\tcommand $words[1] --complete $words[2..-1] $last 2>/dev/null\n"
                                  "end\n"
                                  "complete -c aegisctl -f -a '(__aegisctl_complete)'\n";

static const struct {
	const char *shell, *script;
} scripts[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };

bool ctl_print_completion(const char *shell, FILE *out)
{
	for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
		if (strcmp(scripts[i].shell, shell) != 0)
			continue;
		fputs(scripts[i].script, out);
		return true;
	}
	return false;
}

/* Who completes waits: the instance is asked only for as long as a person does not notice. */
static const int patience_ms = 1000;

struct completion {
	const char *start;
	FILE *out;
};

/* A word that a terminal might obey is not offered: shells show what they offer. */
static void offer(const struct completion *completion, const char *word, const char *meaning)
{
	char bytes[1024];
	struct text text = text_of(bytes, sizeof bytes);
	text_add_printable(&text, word);
	if (word[0] == '\0' || strcmp(bytes, word) != 0 || strncmp(word, completion->start, strlen(completion->start)) != 0)
		return;
	text = text_of(bytes, sizeof bytes);
	text_add_printable(&text, meaning);
	fprintf(completion->out, "%s\t%s\n", word, bytes);
}

static struct tree *ask(const char *dir, const char *path)
{
	char socket_path[CTL_PATH_SIZE];
	struct ctl_answer answer;
	struct tree *tree = NULL;
	if (!ctl_socket_path(dir, socket_path, sizeof socket_path) || ctl_call(socket_path, "GET", path, NULL, patience_ms, &answer) < 0)
		return NULL;
	if (tree_parse(answer.body, &tree) < 0)
		tree = NULL;
	free(answer.body);
	return tree;
}

static const struct tree *first_of(const struct tree *object, const char *key)
{
	const struct tree *list = tree_get(object, key);
	return list == NULL ? NULL : list->first;
}

static void offer_servers(const struct completion *completion, const char *dir)
{
	struct tree *tree = ask(dir, "/servers");
	for (const struct tree *upstream = first_of(tree, "upstreams"); upstream != NULL; upstream = upstream->next)
		for (const struct tree *server = first_of(upstream, "servers"); server != NULL; server = server->next) {
			char name[512];
			snprintf(name, sizeof name, "%s/%s", tree_string(upstream, "name"), tree_string(server, "name"));
			offer(completion, name, tree_string(server, "state"));
		}
	tree_free(tree);
}

static void offer_connections(const struct completion *completion, const char *dir)
{
	struct tree *tree = ask(dir, "/connections");
	for (const struct tree *row = first_of(tree, "connections"); row != NULL; row = row->next)
		offer(completion, tree_string(row, "id"), tree_string(row, "client"));
	tree_free(tree);
}

/* "[::1]:5000" is "::1" for whoever asks about a client. */
static bool client_address(const char *client, char *out, size_t size)
{
	const char *port = strrchr(client, ':');
	if (port == NULL || port == client)
		return false;
	bool bracketed = client[0] == '[' && port[-1] == ']';
	snprintf(out, size, "%.*s", (int)(port - client) - 2 * bracketed, client + bracketed);
	return true;
}

/* Each address once, of so many clients as somebody may want to choose from. */
static void offer_clients(const struct completion *completion, const char *dir)
{
	char seen[100][64];
	size_t n = 0;
	struct tree *tree = ask(dir, "/connections");
	for (const struct tree *row = first_of(tree, "connections"); row != NULL && n < ARRAY_LEN(seen); row = row->next) {
		size_t i = 0;
		if (!client_address(tree_string(row, "client"), seen[n], sizeof seen[n]))
			continue;
		while (strcmp(seen[i], seen[n]) != 0)
			i++;
		if (i == n)
			offer(completion, seen[n++], tree_string(row, "listener"));
	}
	tree_free(tree);
}

static void offer_filters(const struct completion *completion)
{
	for (size_t i = 0; i < ctl_n_filters; i++) {
		char word[32];
		snprintf(word, sizeof word, "%s=", ctl_filters[i]);
		offer(completion, word, "only those");
	}
}

static void offer_orders(const struct completion *completion)
{
	for (size_t i = 0; i < ctl_n_orders; i++)
		offer(completion, ctl_orders[i].name, ctl_orders[i].help);
}

/* The nth word behind the verb, from 1, and behind that word. */
static void offer_words(const struct completion *completion, const struct ctl_verb *verb, int n, const char *before, const char *dir)
{
	if (n < 1 || n > verb->max_words)
		return;
	switch (verb->words[n - 1]) {
	case CTL_WORD_SERVER:
		offer_servers(completion, dir);
		break;
	case CTL_WORD_ORDER:
		offer_orders(completion);
		break;
	case CTL_WORD_CONNECTION:
		offer_connections(completion, dir);
		break;
	case CTL_WORD_CLIENT:
		offer_clients(completion, dir);
		break;
	case CTL_WORD_FILTER:
		offer_filters(completion);
		break;
	case CTL_WORD_WEIGHT:
		if (strcmp(before, "weight") == 0)
			offer(completion, ctl_weight_of_settings, "as the settings say");
		break;
	case CTL_WORD_RELOAD:
		offer(completion, "reload", "read the files again");
		break;
	case CTL_WORD_NONE:
	case CTL_WORD_TIME:
		break;
	}
}

void ctl_complete(char **words, int n, const char *dir, FILE *out)
{
	static const char *const options[][2] = { { "-r", "the runtime directory" }, { "-j", "JSON" }, { "-h", "help" },
		{ "-V", "the version" } };
	const struct completion completion = { .start = n > 0 ? words[n - 1] : "", .out = out };
	int at = 0;
	while (at < n - 1 && words[at][0] == '-') {
		bool has_value = strcmp(words[at], "-r") == 0;
		if (has_value && at + 1 < n - 1)
			dir = words[at + 1];
		else if (has_value)
			return; /* a directory: the shell knows better */
		at += has_value ? 2 : 1;
	}
	if (at < n - 1) {
		const struct ctl_verb *verb = ctl_find_verb(words[at]);
		if (verb != NULL)
			offer_words(&completion, verb, n - at - 1, words[n - 2], dir);
		return;
	}
	for (size_t i = 0; i < ctl_n_verbs; i++)
		offer(&completion, ctl_verbs[i].name, ctl_verbs[i].help);
	for (size_t i = 0; i < ARRAY_LEN(options) && completion.start[0] == '-'; i++)
		offer(&completion, options[i][0], options[i][1]);
}
