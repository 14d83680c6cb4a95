/* Checks a server as the control process does, for test_peers.py: check_server KIND ADDRESS [NAME=VALUE]...
 * A line for each of count=N checks: "good", "bad" or "unable", a blank and the reason. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/prober.h"

struct run {
	struct loop *loop;
	unsigned long left;
};

static void ended(struct run *run, const char *how, const char *reason)
{
	printf("%s %s\n", how, reason);
	fflush(stdout);
	if (--run->left == 0)
		loop_stop(run->loop);
}

static void on_result(void *arg, uint64_t key, const struct health_check *check, const char *reason)
{
	(void)key;
	ended(arg, check->result == HEALTH_RESULT_OK ? "good" : "bad", reason);
}

static void on_unable(void *arg, uint64_t key, const char *reason)
{
	(void)key;
	ended(arg, "unable", reason);
}

static bool parse_kind(const char *name, enum probe_kind *out)
{
	for (enum probe_kind kind = 0; kind < PROBE_KIND_COUNT; kind++)
		if (strcmp(name, probe_kind_name(kind)) == 0) {
			*out = kind;
			return true;
		}
	return false;
}

static bool parse_option(const char *option, struct prober_settings *settings, unsigned long *count)
{
	const struct {
		const char *name;
		const char **text;
	} texts[] = {
		{ "send=", &settings->rules.send },
		{ "expect=", &settings->rules.expect },
		{ "user=", &settings->rules.user },
		{ "path=", &settings->http.path },
		{ "host=", &settings->http.host },
		{ "status=", &settings->http.expect },
		{ "ca=", &settings->http.ca },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (strncmp(option, texts[i].name, strlen(texts[i].name)) == 0) {
			*texts[i].text = option + strlen(texts[i].name);
			return true;
		}
	if (strncmp(option, "count=", 6) == 0)
		*count = strtoul(option + 6, NULL, 10);
	else if (strcmp(option, "verify=1") == 0)
		settings->http.verify = true;
	else if (strncmp(option, "timeout_ms=", 11) == 0)
		settings->timeout_ns = strtoul(option + 11, NULL, 10) * NS_PER_MS;
	else
		return false;
	return true;
}

static int check(const struct prober_settings *settings, unsigned long count)
{
	static const struct prober_ops ops = { on_result, on_unable };
	struct run run = { loop_new(), count };
	struct prober_target *target;
	const char *why;

	ensure(run.loop);
	struct prober *prober = prober_new(run.loop, &ops, &run, 1, 1);
	ensure(prober);
	int error = prober_add(prober, settings, &target, &why);
	if (error)
		fprintf(stderr, "check_server: %s\n", why);
	else
		loop_run(run.loop);
	prober_free(prober);
	loop_free(run.loop);
	return error ? EXIT_FAILURE : EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
	struct endpoint endpoint;
	const char *why = "check_server KIND ADDRESS [NAME=VALUE]...";
	struct prober_settings settings = { .addrs = &endpoint.addr, .n_addrs = 1, .interval_ns = NS_PER_MS, .timeout_ns = 10 * NS_PER_S };
	unsigned long count = 1;

	if (argc < 3 || !parse_kind(argv[1], &settings.rules.kind) || endpoint_parse(argv[2], &endpoint, &why) ||
	        endpoint.kind != ENDPOINT_ADDRESS) {
		fprintf(stderr, "check_server: %s\n", why);
		return EXIT_FAILURE;
	}
	for (int i = 3; i < argc; i++)
		if (!parse_option(argv[i], &settings, &count)) {
			fprintf(stderr, "check_server: %s?\n", argv[i]);
			return EXIT_FAILURE;
		}
	return check(&settings, count);
}
