/* aegis-stat: see stat.h and aegis-stat(1). */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "os/runtime_dir.h"
#include "tools/stat.h"
#include "view/document.h"
#include "view/prometheus.h"

static const char usage[] = "usage: aegis-stat [-r DIR] [-w [SECONDS] | -l [SECONDS] | -j | -p] [-c N]\n"
                            "What a running Aegis counts. Without an option: tables.\n"
                            "  -r DIR        the runtime directory of the instance\n"
                            "  -w [SECONDS]  live, full screen, each second or so many; ? explains it, q quits\n"
                            "  -l [SECONDS]  one line each second or so many\n"
                            "  -c N          stop -w and -l after N periods\n"
                            "  -j            JSON\n"
                            "  -p            Prometheus text\n"
                            "  --metrics     list all metrics and close reasons (Markdown), without an instance\n"
                            "  -h            this text\n"
                            "  -V            the version\n"
                            "Exit codes: 0 ok, 1 wrong arguments, 3 the statistics cannot be read, 4 no running instance.\n";

enum output {
	OUTPUT_TABLES = 'T',
	OUTPUT_SCREEN = 'w',
	OUTPUT_LINES = 'l',
	OUTPUT_JSON = 'j',
	OUTPUT_PROMETHEUS = 'p',
	OUTPUT_REFERENCE = 'M'
};

static const double max_period_s = 86400, min_period_s = 0.05;

struct options {
	char dir[PATH_MAX];
	enum output output;
	struct stat_periods periods;
	bool period_given, done;
};

static int wrong(const char *format, const char *what)
{
	fputs("aegis-stat: ", stderr);
	fprintf(stderr, format, what);
	fputs("; see aegis-stat -h\n", stderr);
	return -EINVAL;
}

static bool is_number(const char *text)
{
	return text != NULL && text[0] != '\0' && text[strspn(text, "0123456789.")] == '\0';
}

static int parse_period(const char *text, struct options *options)
{
	char *end;
	double seconds = is_number(text) ? strtod(text, &end) : 0;
	if (!is_number(text) || *end != '\0' || seconds < min_period_s || seconds > max_period_s)
		return wrong("\"%s\" is not a number of seconds from 0.05 to 86400", text);
	options->periods.period_ns = (uint64_t)(seconds * (double)NS_PER_S);
	return 0;
}

static int parse_count(const char *text, struct options *options)
{
	size_t length = strlen(text);
	if (length == 0 || length > 9 || strspn(text, "0123456789") != length || strtoul(text, NULL, 10) == 0)
		return wrong("\"%s\" is not a number of periods, 1 or more", text);
	options->periods.count = strtoul(text, NULL, 10);
	return 0;
}

static int choose(struct options *options, enum output output)
{
	if (options->output != OUTPUT_TABLES && options->output != output)
		return wrong("%s", "only one of -w, -l, -j, -p and --metrics can be given");
	options->output = output;
	return 0;
}

/* -w and -l take their number attached (-l2) or behind (-l 2). */
static int choose_live(struct options *options, enum output output, char **argv)
{
	int rc = choose(options, output);
	const char *period = optarg;
	if (period == NULL && argv[optind] != NULL && argv[optind][0] >= '0' && argv[optind][0] <= '9')
		period = argv[optind++];
	return rc == 0 && period != NULL ? parse_period(period, options) : rc;
}

static int take_dir(struct options *options, const char *dir)
{
	if (dir[0] == '\0' || strlen(dir) >= sizeof options->dir)
		return wrong("\"%s\" is not a directory", dir);
	memcpy(options->dir, dir, strlen(dir) + 1);
	return 0;
}

static int take_option(struct options *options, int option, char **argv)
{
	switch (option) {
	case 'r':
		return take_dir(options, optarg);
	case 'w':
	case 'l':
		return choose_live(options, (enum output)option, argv);
	case 'j':
	case 'p':
	case 'M':
		return choose(options, (enum output)option);
	case 'c':
		return parse_count(optarg, options);
	case 'h':
		fputs(usage, stdout);
		options->done = true;
		return 0;
	case 'V':
		puts("aegis-stat " PACKAGE_VERSION);
		options->done = true;
		return 0;
	case ':':
		return wrong("a value is missing after %s", argv[optind - 1]);
	default:
		return wrong("there is no option %s", argv[optind - 1]);
	}
}

static int read_options(struct options *options, int argc, char **argv)
{
	static const struct option names[] = { { "metrics", no_argument, NULL, 'M' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 } };
	int option, rc = 0;
	opterr = 0;
	while (rc == 0 && !options->done && (option = getopt_long(argc, argv, "+:r:w::l::jpc:hV", names, NULL)) != -1)
		rc = take_option(options, option, argv);
	if (rc < 0 || options->done)
		return rc;
	if (optind < argc)
		return wrong("what is \"%s\"? A directory stands behind -r", argv[optind]);
	if (options->periods.count != 0 && options->output != OUTPUT_SCREEN && options->output != OUTPUT_LINES)
		return wrong("%s", "-c belongs to -w and -l");
	return 0;
}

static enum stat_exit print_once(const struct options *options)
{
	char why[STAT_WHY_SIZE];
	struct snapshot *snapshot;
	enum stat_exit code = stat_look(options->dir, &snapshot, why, sizeof why);
	if (code != STAT_OK) {
		fprintf(stderr, "aegis-stat: %s\n", why);
		return code;
	}
	if (options->output == OUTPUT_JSON)
		document_print(snapshot, stdout);
	else if (options->output == OUTPUT_PROMETHEUS)
		prometheus_print(snapshot, stdout);
	else
		stat_print_tables(snapshot, stdout);
	snapshot_free(snapshot);
	return STAT_OK;
}

static enum stat_exit run(const struct options *options)
{
	switch (options->output) {
	case OUTPUT_SCREEN:
		return stat_run_screen(options->dir, &options->periods);
	case OUTPUT_LINES:
		return stat_run_lines(options->dir, &options->periods);
	case OUTPUT_REFERENCE:
		stat_print_reference(stdout);
		return STAT_OK;
	default:
		return print_once(options);
	}
}

int main(int argc, char **argv)
{
	struct options options = { .output = OUTPUT_TABLES, .periods = { .period_ns = NS_PER_S } };
	runtime_dir_default(options.dir, sizeof options.dir);
	if (read_options(&options, argc, argv) < 0)
		return STAT_ARGUMENTS;
	enum stat_exit code = options.done ? STAT_OK : run(&options);
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == STAT_OK) {
		fprintf(stderr, "aegis-stat: cannot write: %s\n", strerror(errno));
		return STAT_UNREADABLE;
	}
	return (int)code;
}
