/* aegisctl: see ctl.h and aegisctl(1). */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <string.h>

#include "base/text.h"
#include "os/process.h"
#include "os/runtime_dir.h"
#include "tools/ctl.h"

static const char usage[] = "usage: aegisctl [-r DIR] [-j] VERB ...\n"
                            "Ask and steer a running Aegis.\n"
                            "  -r DIR                the runtime directory of the instance\n"
                            "  -j                    the answer as it comes, JSON\n"
                            "  --completion SHELL    the script that makes bash, zsh or fish complete these verbs\n"
                            "  -h                    this text\n"
                            "  -V                    the version\n"
                            "Verbs:\n";
static const char usage_end[] = "Exit codes: 0 ok, 1 wrong arguments, 3 refused by the instance, 4 no running instance.\n";

struct options {
	char dir[PATH_MAX];
	bool json, done;
};

static int wrong(const char *format, const char *what)
{
	fputs("aegisctl: ", stderr);
	fprintf(stderr, format, what);
	fputs("; see aegisctl -h\n", stderr);
	return -EINVAL;
}

bool ctl_socket_path(const char *dir, char *out, size_t size)
{
	return (size_t)snprintf(out, size, "%s/admin.sock", dir) < size;
}

static void help(void)
{
	fputs(usage, stdout);
	ctl_print_help(stdout);
	fputs(usage_end, stdout);
}

static int take_option(struct options *options, int option, char **argv)
{
	options->done = strchr("hVSMC", option) != NULL;
	switch (option) {
	case 'r':
		return optarg[0] != '\0' && text_copy(options->dir, sizeof options->dir, optarg)
		               ? 0
		               : wrong("\"%s\" is not a directory", optarg);
	case 'j':
		options->json = true;
		return 0;
	case 'h':
		help();
		return 0;
	case 'V':
		puts("aegisctl " PACKAGE_VERSION);
		return 0;
	case 'S':
		return ctl_print_completion(optarg, stdout) ? 0 : wrong("\"%s\" is none of bash, zsh and fish", optarg);
	case 'M':
		ctl_print_manual(stdout);
		return 0;
	case ':':
		return wrong("a value is missing after %s", argv[optind - 1]);
	default:
		return wrong("there is no option %s", argv[optind - 1]);
	}
}

static int read_options(struct options *options, int argc, char **argv)
{
	static const struct option names[] = { { "completion", required_argument, NULL, 'S' }, { "manual", no_argument, NULL, 'M' },
		{ "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 } };
	int option, rc = 0;
	opterr = 0;
	while (rc == 0 && !options->done && (option = getopt_long(argc, argv, "+:r:jhV", names, NULL)) != -1)
		rc = take_option(options, option, argv);
	return rc;
}

/* The verb, or NULL and told what might have been meant. */
static const struct ctl_verb *choose_verb(const char *name)
{
	const struct ctl_verb *verb = name == NULL ? NULL : ctl_find_verb(name);
	if (verb != NULL)
		return verb;
	const char *names[32];
	ensure(ctl_n_verbs <= ARRAY_LEN(names));
	for (size_t i = 0; i < ctl_n_verbs; i++)
		names[i] = ctl_verbs[i].name;
	const char *near = name == NULL ? NULL : text_nearest(name, names, ctl_n_verbs);
	if (name == NULL)
		fputs("aegisctl: what is to be done? see aegisctl -h\n", stderr);
	else
		fprintf(stderr, "aegisctl: there is no verb \"%s\"%s%s%s\n", name, near ? "; did you mean \"" : "; see aegisctl -h",
		        near ? near : "", near ? "\"?" : "");
	return NULL;
}

static enum ctl_exit not_running(const char *dir, const char *socket_path)
{
	char pid_path[PATH_MAX + 16];
	snprintf(pid_path, sizeof pid_path, "%s/aegis.pid", dir);
	int pid = process_running(pid_path);
	if (pid > 0) {
		fprintf(stderr,
		        "aegisctl: Aegis runs in %s (pid %d), but nobody answers at %s; aegis -V says whether it was built with the admin "
		        "interface\n",
		        dir, pid, socket_path);
		return CTL_REFUSED;
	}
	fprintf(stderr, "aegisctl: no Aegis is running in %s; start one with aegis(8), or name its runtime_dir with -r DIR\n", dir);
	return CTL_NOT_RUNNING;
}

static enum ctl_exit cannot_ask(const char *dir, const char *socket_path, int error)
{
	switch (error) {
	case -ENOENT:
	case -ENOTDIR:
	case -ECONNREFUSED:
		return not_running(dir, socket_path);
	case -EACCES:
	case -EPERM:
		fprintf(stderr,
		        "aegisctl: you may not ask %s; be root, the user that Aegis runs as, or a member of the group of the socket\n",
		        socket_path);
		return CTL_REFUSED;
	case -ETIMEDOUT:
		fprintf(stderr, "aegisctl: %s: no answer; its log may say why\n", socket_path);
		return CTL_REFUSED;
	case -EPROTO:
		fprintf(stderr, "aegisctl: %s: the answer is not one of Aegis, or broke off\n", socket_path);
		return CTL_REFUSED;
	default:
		fprintf(stderr, "aegisctl: cannot ask %s: %s\n", socket_path, strerror(-error));
		return CTL_REFUSED;
	}
}

/* It may repeat what stands in a file, and a file may hold anything, also what a terminal obeys. */
static void print_error(const char *before, const char *error)
{
	char bytes[4096];
	struct text text = text_of(bytes, sizeof bytes);
	text_add_printable(&text, error);
	fprintf(stderr, "%s%s\n", before, bytes);
}

/* What the instance says against it: one line, or a line for each error. */
static void print_refusal(const struct ctl_answer *answer, const struct tree *tree)
{
	const struct tree *errors = tree_get(tree, "errors");
	const char *error = tree_string(tree, "error");
	if (error[0] != '\0')
		print_error("aegisctl: ", error);
	else
		fprintf(stderr, "aegisctl: refused, with status %d of HTTP\n", answer->status);
	for (const struct tree *row = errors == NULL ? NULL : errors->first; row != NULL; row = row->next)
		if (row->kind == TREE_STRING && strcmp(row->text, error) != 0)
			print_error("  ", row->text);
}

static enum ctl_exit show(const struct options *options, const struct ctl_verb *verb, char **words, const struct ctl_answer *answer)
{
	bool good = answer->status >= 200 && answer->status < 300;
	struct tree *tree = NULL;
	/* Text that ends before the answer does: what stands behind a NUL was not looked at. */
	int rc = strlen(answer->body) == answer->length ? tree_parse(answer->body, &tree) : -EINVAL;
	if (rc < 0 && good) {
		fprintf(stderr, "aegisctl: the answer cannot be read: %s\n", rc == -EINVAL ? "it is not JSON" : strerror(-rc));
		good = false;
	} else if (rc == 0 && options->json) {
		bool ended = answer->body[answer->length - 1] == '\n';
		fwrite(answer->body, 1, answer->length, stdout);
		fputs(ended ? "" : "\n", stdout);
	} else if (rc < 0 || (!good && (tree_get(tree, "error") != NULL || tree_get(tree, "errors") != NULL))) {
		print_refusal(answer, rc < 0 ? NULL : tree);
	} else {
		verb->print(tree, words, stdout);
	}
	if (rc == 0)
		tree_free(tree);
	return good ? CTL_OK : CTL_REFUSED;
}

static enum ctl_exit run(const struct options *options, char **words, int n)
{
	char socket_path[PATH_MAX + 16], why[CTL_WHY_SIZE];
	struct ctl_request request;
	struct ctl_answer answer;
	const struct ctl_verb *verb = choose_verb(n > 0 ? words[0] : NULL);
	if (verb == NULL)
		return CTL_ARGUMENTS;
	if (ctl_make_request(verb, words + 1, n - 1, &request, why) < 0) {
		fprintf(stderr, "aegisctl: %s\n", why);
		return CTL_ARGUMENTS;
	}
	if (!ctl_socket_path(options->dir, socket_path, sizeof socket_path))
		return cannot_ask(options->dir, options->dir, -ENAMETOOLONG);
	int rc =
	        ctl_call(socket_path, verb->method, request.path, request.body[0] != '\0' ? request.body : NULL, verb->timeout_ms, &answer);
	if (rc < 0)
		return cannot_ask(options->dir, socket_path, rc);
	enum ctl_exit code = show(options, verb, words + 1, &answer);
	free(answer.body);
	return code;
}

int main(int argc, char **argv)
{
	struct options options = { .done = false };
	runtime_dir_default(options.dir, sizeof options.dir);
	/* Before the options are read: what stands behind is a line that somebody is still writing. */
	if (argc > 1 && strcmp(argv[1], "--complete") == 0) {
		ctl_complete(argv + 2, argc - 2, options.dir, stdout);
		return CTL_OK;
	}
	if (read_options(&options, argc, argv) < 0)
		return CTL_ARGUMENTS;
	enum ctl_exit code = options.done ? CTL_OK : run(&options, argv + optind, argc - optind);
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == CTL_OK) {
		fprintf(stderr, "aegisctl: cannot write: %s\n", strerror(errno));
		return CTL_REFUSED;
	}
	return (int)code;
}
