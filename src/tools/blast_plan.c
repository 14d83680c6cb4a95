/* The command line of aegis-udpblast. */
#include <getopt.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "base/units.h"
#include "tools/arguments.h"
#include "tools/blast.h"

static const char program[] = "aegis-udpblast";

static const char usage[] =
        "usage: aegis-udpblast [options] HOST:PORT\n"
        "Load for a UDP server that sends back what it gets: loss, order, mix-ups and how long the answers took.\n"
        "  -c N                  flows, each with a socket of its own (10)\n"
        "  -n N                  datagrams for each flow (1000)\n"
        "  -d SECONDS            send for a time\n"
        "  -p BYTES              of each datagram, 16 to 65507 (64)\n"
        "  -b N                  so many at once, a burst (1)\n"
        "  -w N                  window: so many of a flow under way, from the oldest one that is not answered (a burst)\n"
        "  -s                    send each burst in one piece, cut by the kernel (UDP_SEGMENT)\n"
        "  -g                    let the kernel put answers together (UDP_GRO)\n"
        "  -r RATE               so many datagrams a second, sent when they are due, whether others were answered or not\n"
        "  -1                    one way: nobody answers\n"
        "  -j                    JSON\n"
        "  -i SECONDS            a line each period\n"
        "  --at-once N           so many flows under way at a time, in turn (all)\n"
        "  --renew N             a new socket after so many datagrams\n"
        "  --lost-after SECONDS  what is not answered by then is lost (1)\n"
        "  --loss PERCENT        so many may be lost (0)\n"
        "  --in-order            answers out of order are failures\n"
        "  --processes N         load processes (1)\n"
        "  --warmup SECONDS      before anything is counted (0)\n"
        "  --csv FILE            a row for each datagram\n"
        "  --source-range A/NN   take the flows' IPv4 addresses in turn from this range, for example 127.0.0.0/8\n"
        "  --source-port PORT    of all of them, and the next one when all addresses are taken\n"
        "  -h, --help            this text\n"
        "  -V, --version         the version\n"
        "Exit codes: 0 all well, 1 wrong arguments, 2 cannot start, 3 something failed.\n";

enum long_option {
	OPTION_AT_ONCE = 256,
	OPTION_RENEW,
	OPTION_LOST_AFTER,
	OPTION_LOSS,
	OPTION_IN_ORDER,
	OPTION_PROCESSES,
	OPTION_WARMUP,
	OPTION_CSV,
	OPTION_SOURCES,
	OPTION_SOURCE_PORT
};

static const struct option long_options[] = {
	{ "at-once", required_argument, NULL, OPTION_AT_ONCE },
	{ "renew", required_argument, NULL, OPTION_RENEW },
	{ "lost-after", required_argument, NULL, OPTION_LOST_AFTER },
	{ "loss", required_argument, NULL, OPTION_LOSS },
	{ "in-order", no_argument, NULL, OPTION_IN_ORDER },
	{ "processes", required_argument, NULL, OPTION_PROCESSES },
	{ "warmup", required_argument, NULL, OPTION_WARMUP },
	{ "csv", required_argument, NULL, OPTION_CSV },
	{ "source-range", required_argument, NULL, OPTION_SOURCES },
	{ "source-port", required_argument, NULL, OPTION_SOURCE_PORT },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

enum { MAX_FLOWS = 10000000, MAX_PROCESSES = 1024 };
/* Answers that are awaited with a rate take memory, 8 bytes each. */
static const uint64_t max_datagrams = UINT64_C(1) << 40, default_datagrams = 1000, max_awaited = UINT64_C(1) << 25;

/* What was said, before it is looked at as a whole. */
struct words {
	uint64_t flows, processes, datagrams, burst, window, at_once, payload, source_port;
	bool timed, paced;
};

static int wrong(const char *format, const char *what)
{
	return arguments_wrong(program, format, what);
}

static int take_number(int option, const char *value, struct blast_plan *plan, struct words *words)
{
	switch (option) {
	case 'c':
		return arguments_count(program, value, MAX_FLOWS, &words->flows);
	case 'n':
		return arguments_count(program, value, max_datagrams, &words->datagrams);
	case 'p':
		return arguments_count(program, value, BLAST_MAX_PAYLOAD, &words->payload);
	case 'b':
		return arguments_count(program, value, BLAST_MAX_BURST, &words->burst);
	case 'w':
		return arguments_count(program, value, BLAST_MAX_WINDOW, &words->window);
	case OPTION_AT_ONCE:
		return arguments_count(program, value, MAX_FLOWS, &words->at_once);
	case OPTION_RENEW:
		return arguments_count(program, value, max_datagrams, &plan->renew);
	case OPTION_SOURCE_PORT:
		return arguments_count(program, value, UINT16_MAX, &words->source_port);
	case OPTION_PROCESSES:
		return arguments_count(program, value, MAX_PROCESSES, &words->processes);
	default:
		return -1;
	}
}

static int take_other(int option, const char *value, struct blast_plan *plan, struct words *words)
{
	switch (option) {
	case 'd':
		words->timed = true;
		return arguments_seconds(program, value, &plan->run_ns);
	case 'r':
		words->paced = true;
		return arguments_decimal(program, value, 1e9, &plan->rate_per_s);
	case 'i':
		return arguments_seconds(program, value, &plan->period_ns);
	case OPTION_LOST_AFTER:
		return arguments_seconds(program, value, &plan->lost_after_ns);
	case OPTION_LOSS:
		return arguments_decimal(program, value, 100, &plan->loss_percent);
	case OPTION_WARMUP:
		return arguments_seconds(program, value, &plan->warmup_ns);
	case OPTION_SOURCES:
		return arguments_sources(program, value, &plan->sources);
	default:
		return -1;
	}
}

static void take_switch(int option, const char *value, struct blast_plan *plan)
{
	plan->json = plan->json || option == 'j';
	plan->segment = plan->segment || option == 's';
	plan->coalesce = plan->coalesce || option == 'g';
	plan->one_way = plan->one_way || option == '1';
	plan->in_order = plan->in_order || option == OPTION_IN_ORDER;
	if (option == OPTION_CSV)
		plan->csv = value;
}

/* For how many datagrams of a flow an answer is awaited when they are sent by a rate: for those of the time until they are lost, and some.
 */
static uint32_t awaited_by_rate(const struct blast_plan *plan)
{
	double each = plan->rate_per_s / plan->flows * (double)plan->lost_after_ns / (double)NS_PER_S;
	uint64_t most = max_awaited / plan->flows, n = 2 * plan->burst + (each > BLAST_MAX_WINDOW ? BLAST_MAX_WINDOW : (uint64_t)each);
	n = n < most ? n : most;
	n = n < BLAST_MAX_WINDOW ? n : BLAST_MAX_WINDOW;
	return (uint32_t)(n > plan->burst ? n : plan->burst);
}

static int check_whole(struct blast_plan *plan, const struct words *words)
{
	plan->flows = (uint32_t)words->flows;
	plan->processes = (uint32_t)(words->processes < words->flows ? words->processes : words->flows);
	plan->at_once = (uint32_t)(words->at_once > 0 && words->at_once < words->flows ? words->at_once : words->flows);
	plan->payload_bytes = (uint32_t)words->payload;
	plan->burst = (uint32_t)words->burst;
	plan->window = (uint32_t)(words->window > 0 ? words->window : words->burst);
	plan->datagrams = words->datagrams != 0 ? words->datagrams : words->timed ? UINT64_MAX : default_datagrams;
	if (words->timed && plan->run_ns == 0)
		return wrong("%s", "-d 0 is no time to run");
	if (words->paced && plan->rate_per_s == 0)
		return wrong("%s", "-r 0 sends nothing");
	if (words->payload < MESSAGE_STAMP_BYTES)
		return wrong("%s", "a datagram has 16 bytes at least: they say whose it is");
	if (plan->lost_after_ns == 0)
		return wrong("%s", "--lost-after 0 leaves no time for an answer");
	if (plan->rate_per_s > 0 && (words->window > 0 || words->at_once > 0))
		return wrong("%s", "-w and --at-once do not go with -r: what is due is sent");
	if (plan->window < plan->burst)
		return wrong("%s", "the window (-w) is smaller than a burst (-b)");
	if (plan->sources.count > 0 && plan->target.sa.sa_family != AF_INET)
		return wrong("--source-range is for IPv4, and %s is not", plan->target_text);
	if (words->source_port > 0 && plan->sources.count == 0)
		return wrong("%s", "--source-port goes with --source-range");
	plan->sources.port = (uint16_t)words->source_port;
	if (plan->rate_per_s > 0)
		plan->window = awaited_by_rate(plan);
	return -1;
}

int blast_plan_read(struct blast_plan *plan, int argc, char **argv)
{
	struct words words = { .flows = 10, .processes = 1, .burst = 1, .payload = 64 };
	*plan = (struct blast_plan){ .lost_after_ns = NS_PER_S };
	int option, code;
	while ((option = getopt_long(argc, argv, ":c:n:d:p:b:w:sgr:1ji:hV", long_options, NULL)) != -1) {
		code = arguments_general(program, usage, option, argv[optind - 1]);
		if (code >= 0)
			return code;
		take_switch(option, optarg, plan);
		code = take_number(option, optarg, plan, &words);
		if (code < 0)
			code = take_other(option, optarg, plan, &words);
		if (code >= 0)
			return code;
	}
	if (optind + 1 != argc)
		return optind == argc ? wrong("%s", "where to? Say HOST:PORT") : wrong("what is \"%s\"?", argv[optind + 1]);
	if (!text_copy(plan->target_text, sizeof plan->target_text, argv[optind]))
		return wrong("\"%s\" is too long", argv[optind]);
	code = arguments_target(program, plan->target_text, SOCK_DGRAM, &plan->target);
	return code >= 0 ? code : check_whole(plan, &words);
}
