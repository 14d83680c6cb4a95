/* The command line of aegis-bench. */
#include <getopt.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/arguments.h"
#include "tools/bench.h"

static const char program[] = "aegis-bench";

static const char usage[] =
        "usage: aegis-bench [options] HOST:PORT\n"
        "Load for a server, and how long it took to answer.\n"
        "  -m MODE               echo (send, wait for the same bytes), http (GET), download (GET, large), upload (POST) or\n"
        "                        hold (one echo, stay connected, one more) (echo)\n"
        "  -c N                  connections (10)\n"
        "  -n N                  messages for each connection (1000)\n"
        "  -d SECONDS            run for a time; in the mode hold: stay connected so long\n"
        "  -p BYTES              of an echo or an upload, for example 128, 64k, 1M (128)\n"
        "  -j                    JSON\n"
        "  --path PATH           of the requests (/)\n"
        "  --churn               a new connection for each message (echo, http)\n"
        "  --rate R              R messages a second, sent when they are due, whether others were answered or not\n"
        "  --processes N         load processes (1)\n"
        "  --warmup SECONDS      before anything is counted (0)\n"
        "  --timeout SECONDS     give up so long after -d, or after the last answer (30)\n"
        "  --csv FILE            a row for each message\n"
        "  --check-cross         insist that bytes of other connections would be found: payloads of 16 bytes or more\n"
        "  --source-range A/NN   take the clients' IPv4 addresses in turn from this range, for example 127.0.0.0/8\n"
        "  --until-eof           in the mode hold: stay connected until standard input ends\n"
        "  --host H, --port P    another way to say where (127.0.0.1, 8080)\n"
        "  -h, --help            this text\n"
        "  -V, --version         the version\n"
        "Exit codes: 0 no error, 1 wrong arguments, 2 cannot start, 3 something failed.\n";

enum long_option {
	OPTION_PATH = 256,
	OPTION_CHURN,
	OPTION_RATE,
	OPTION_PROCESSES,
	OPTION_WARMUP,
	OPTION_TIMEOUT,
	OPTION_CSV,
	OPTION_CROSS,
	OPTION_SOURCES,
	OPTION_EOF,
	OPTION_HOST,
	OPTION_PORT
};

static const struct option long_options[] = {
	{ "path", required_argument, NULL, OPTION_PATH },
	{ "churn", no_argument, NULL, OPTION_CHURN },
	{ "rate", required_argument, NULL, OPTION_RATE },
	{ "processes", required_argument, NULL, OPTION_PROCESSES },
	{ "warmup", required_argument, NULL, OPTION_WARMUP },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "csv", required_argument, NULL, OPTION_CSV },
	{ "check-cross", no_argument, NULL, OPTION_CROSS },
	{ "source-range", required_argument, NULL, OPTION_SOURCES },
	{ "until-eof", no_argument, NULL, OPTION_EOF },
	{ "host", required_argument, NULL, OPTION_HOST },
	{ "port", required_argument, NULL, OPTION_PORT },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

enum { MAX_CLIENTS = 10000000, MAX_PROCESSES = 1024 };
static const uint64_t max_messages = UINT64_C(1) << 40, max_payload = UINT64_C(1) << 40, default_messages = 1000, default_payload = 128;

/* What was said, before it is looked at as a whole. */
struct words {
	const char *host, *port, *target;
	uint64_t messages, processes, clients;
	bool path, cross, timed;
};

static int wrong(const char *format, const char *what)
{
	return arguments_wrong(program, format, what);
}

/* --- values; each returns -1, or the exit code ------------------------------------ */

static int take_mode(const char *text, enum bench_mode *out)
{
	for (int i = 0; i < BENCH_MODE_COUNT; i++) {
		if (strcmp(text, bench_mode_name((enum bench_mode)i)) != 0)
			continue;
		*out = (enum bench_mode)i;
		return -1;
	}
	return wrong("-m %s is none of echo, http, download, upload and hold", text);
}

static int take_path(const char *text, struct plan *plan)
{
	bool good = text[0] == '/' && strlen(text) < sizeof plan->path;
	for (const char *c = text; *c != '\0'; c++)
		good = good && *c > ' ' && *c <= '~';
	if (!good)
		return wrong("\"%s\" is not a path: a slash, printable letters, no space", text);
	memcpy(plan->path, text, strlen(text) + 1);
	return -1;
}

static int take_option(int option, const char *value, struct plan *plan, struct words *words)
{
	switch (option) {
	case 'm':
		return take_mode(value, &plan->mode);
	case 'c':
		return arguments_count(program, value, MAX_CLIENTS, &words->clients);
	case 'n':
		return arguments_count(program, value, max_messages, &words->messages);
	case 'd':
		words->timed = true;
		return arguments_seconds(program, value, &plan->run_ns);
	case 'p':
		if (units_parse_size(value, &plan->payload_bytes) < 0 || plan->payload_bytes > max_payload)
			return wrong("\"%s\" is not a size as in 128, 64k or 1M", value);
		return -1;
	case OPTION_PATH:
		words->path = true;
		return take_path(value, plan);
	case OPTION_RATE:
		return arguments_decimal(program, value, 1e9, &plan->rate_per_s);
	case OPTION_PROCESSES:
		return arguments_count(program, value, MAX_PROCESSES, &words->processes);
	case OPTION_WARMUP:
		return arguments_seconds(program, value, &plan->warmup_ns);
	case OPTION_TIMEOUT:
		return arguments_seconds(program, value, &plan->timeout_ns);
	case OPTION_SOURCES:
		return arguments_sources(program, value, &plan->sources);
	default:
		return -1;
	}
}

static void take_switch(int option, char *value, struct plan *plan, struct words *words)
{
	plan->json = plan->json || option == 'j';
	plan->churn = plan->churn || option == OPTION_CHURN;
	plan->until_eof = plan->until_eof || option == OPTION_EOF;
	words->cross = words->cross || option == OPTION_CROSS;
	if (option == OPTION_CSV)
		plan->csv = value;
	if (option == OPTION_HOST)
		words->host = value;
	if (option == OPTION_PORT)
		words->port = value;
}

/* --- the target ------------------------------------------------------------------- */

static int find_target(struct plan *plan, const struct words *words)
{
	if (words->target != NULL && (words->host != NULL || words->port != NULL))
		return wrong("%s", "HOST:PORT and --host or --port say the same twice");
	const char *host = words->host != NULL ? words->host : "127.0.0.1";
	bool bare_v6 = strchr(host, ':') != NULL && host[0] != '[';
	struct text text = text_of(plan->target_text, sizeof plan->target_text);
	if (words->target != NULL)
		text_add(&text, "%s", words->target);
	else
		text_add(&text, bare_v6 ? "[%s]:%s" : "%s:%s", host, words->port != NULL ? words->port : "8080");
	if (text.cut)
		return wrong("\"%s\" is too long", plan->target_text);
	return arguments_target(program, plan->target_text, SOCK_STREAM, &plan->target);
}

/* --- the whole -------------------------------------------------------------------- */

static int check_hold(struct plan *plan, const struct words *words)
{
	if (plan->mode != BENCH_HOLD)
		return plan->until_eof ? wrong("%s", "--until-eof belongs to -m hold") : -1;
	if (!words->timed && !plan->until_eof)
		return wrong("%s", "-m hold needs -d or --until-eof");
	if (plan->churn || plan->rate_per_s > 0 || words->messages != 0 || plan->warmup_ns > 0)
		return wrong("%s", "-m hold goes with none of -n, --churn, --rate and --warmup");
	plan->hold_ns = words->timed ? plan->run_ns : UINT64_MAX;
	plan->run_ns = 0;
	plan->messages = 1;
	return -1;
}

static int check_whole(struct plan *plan, const struct words *words)
{
	bool echo = plan->mode == BENCH_ECHO || plan->mode == BENCH_HOLD;
	plan->clients = (uint32_t)words->clients;
	plan->processes = (uint32_t)(words->processes < words->clients ? words->processes : words->clients);
	plan->messages = words->messages != 0 ? words->messages : words->timed ? UINT64_MAX : default_messages;
	if (words->timed && plan->run_ns == 0 && plan->mode != BENCH_HOLD)
		return wrong("%s", "-d 0 is no time to run");
	if (plan->churn && plan->mode != BENCH_ECHO && plan->mode != BENCH_HTTP)
		return wrong("--churn does not go with -m %s", bench_mode_name(plan->mode));
	if (words->path && echo)
		return wrong("--path does not go with -m %s", bench_mode_name(plan->mode));
	if (echo && plan->payload_bytes == 0)
		return wrong("%s", "an echo needs a byte at least");
	if (words->cross && (!echo || plan->payload_bytes < MESSAGE_STAMP_BYTES))
		return wrong("%s", "--check-cross needs an echo of 16 bytes or more");
	if (plan->sources.count > 0 && plan->target.sa.sa_family != AF_INET)
		return wrong("--source-range is for IPv4, and %s is not", plan->target_text);
	return check_hold(plan, words);
}

int plan_read(struct plan *plan, int argc, char **argv)
{
	struct words words = { .clients = 10, .processes = 1 };
	*plan = (struct plan){ .path = "/", .payload_bytes = default_payload, .timeout_ns = 30 * NS_PER_S };
	int option, code;
	while ((option = getopt_long(argc, argv, ":m:c:n:d:p:jhV", long_options, NULL)) != -1) {
		code = arguments_general(program, usage, option, argv[optind - 1]);
		if (code >= 0)
			return code;
		take_switch(option, optarg, plan, &words);
		code = take_option(option, optarg, plan, &words);
		if (code >= 0)
			return code;
	}
	words.target = argv[optind];
	if (optind + 1 < argc)
		return wrong("what is \"%s\"?", argv[optind + 1]);
	code = find_target(plan, &words);
	return code >= 0 ? code : check_whole(plan, &words);
}
