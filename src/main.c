/* aegis: the command line. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "config/config.h"
#include "control/control.h"
#include "control/http.h"
#include "control/probe_http.h"
#include "control/resolver.h"
#include "master/challenges.h"
#include "master/command.h"
#include "master/master.h"
#include "master/patience.h"
#include "master/plan_command.h"
#include "os/cpu.h"
#include "os/notify.h"
#include "os/ring.h"
#include "os/runtime_dir.h"
#include "os/title.h"
#include "tls/build.h"
#include "tls/tls.h"
#include "udp/datagram.h"

#define DEFAULT_FILE AEGIS_SYSCONFDIR "/aegis.conf"

#define BRIEFLY_NS (5 * NS_PER_S)

enum { EXIT_ARGUMENTS = 1 };
enum { OPTION_MANUAL = 256 };

static const char usage[] =
        "Usage: aegis [-c FILE] [-r DIR] [-e TEXT]...     run in the foreground (systemd's way)\n"
        "       aegis LISTEN UPSTREAM [UPSTREAM...]       quick mode, no file: aegis 0.0.0.0:8080 127.0.0.1:3000\n"
        "       aegis -p [-j] [-c FILE] [-r DIR] [-e TEXT]... print what a reload would do, or a start\n"
        "       aegis -s COMMAND [-r DIR]                 tell the running instance: reload, drain, stop, quit, reopen, upgrade\n"
        "\n"
        "  -c FILE  settings (" AEGIS_SYSCONFDIR "/aegis.conf)\n"
        "  -e TEXT  override a setting: -e 'workers = 2;'\n"
        "  -r DIR   runtime directory: pid file and shared memory (/run/aegis, or one of your own when not root)\n"
        "  -t       check the settings, list all errors\n"
        "  -T       print the effective settings, and where each came from\n"
        "  -p       compare the settings with those of the running instance, check what is in the way; -j: as JSON\n"
        "  -V       print the version, and which features work here\n"
        "  -h       print this\n"
        "\n"
        "Signals: HUP reload, TERM INT QUIT stop gracefully (again: at once), WINCH drain, USR1 reopen logs,\n"
        "USR2 upgrade the program.\n"
        "Exit status: 0 ok, 1 invalid settings or arguments, 2 cannot bind or start, 3 refused by the running instance,\n"
        "4 no running instance. See aegis(8), aegis.conf(5), aegis-stat(1).\n";

enum mode { MODE_RUN, MODE_CHECK, MODE_DUMP, MODE_PLAN, MODE_SIGNAL, MODE_VERSION, MODE_HELP, MODE_MANUAL };

struct arguments {
	char *const *argv;
	enum mode mode;
	const char *verb;
	const char **overrides; /* [argc] */
	struct config_source source;
	bool quick;
	bool json; /* -p */
};

static int parse_arguments(int argc, char **argv, struct arguments *out)
{
	static const struct option long_options[] = { { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'V' },
		{ "manual", no_argument, NULL, OPTION_MANUAL }, { NULL, 0, NULL, 0 } };
	static const struct {
		int option;
		enum mode mode;
	} modes[] = { { 't', MODE_CHECK }, { 'T', MODE_DUMP }, { 'V', MODE_VERSION }, { 'h', MODE_HELP }, { OPTION_MANUAL, MODE_MANUAL },
		{ 's', MODE_SIGNAL }, { 'p', MODE_PLAN } };
	int option;
	while ((option = getopt_long(argc, argv, "c:r:e:s:tTpjVh", long_options, NULL)) != -1) {
		for (size_t i = 0; i < ARRAY_LEN(modes); i++)
			if (option == modes[i].option)
				out->mode = modes[i].mode;
		if (option == 'c')
			out->source.file = optarg;
		else if (option == 'r')
			out->source.runtime_dir = optarg;
		else if (option == 'e')
			out->overrides[out->source.n_overrides++] = optarg;
		else if (option == 's')
			out->verb = optarg;
		else if (option == 'j')
			out->json = true;
		else if (option == '?')
			return -EINVAL; /* getopt has said why */
	}
	out->source.overrides = out->overrides;
	if (out->json && out->mode != MODE_PLAN) {
		fputs("aegis: -j is for -p; aegis-stat -j prints the statistics\n", stderr);
		return -EINVAL;
	}
	if (optind == argc)
		return 0;
	out->quick = true;
	out->source.quick_listen = argv[optind];
	out->source.quick_upstreams = (const char *const *)&argv[optind + 1];
	out->source.n_quick_upstreams = (size_t)(argc - optind - 1);
	if (out->source.n_quick_upstreams > 0 && !out->source.file && out->mode != MODE_SIGNAL)
		return 0;
	if (out->mode == MODE_SIGNAL)
		fprintf(stderr, "aegis: -s takes one command, and \"%s\" is one word too many\n", argv[optind]);
	else if (out->source.file)
		fprintf(stderr, "aegis: \"%s\": either -c FILE or LISTEN UPSTREAM..., not both\n", argv[optind]);
	else
		fprintf(stderr,
		        "aegis: \"%s\" is a listen address without an upstream: aegis LISTEN UPSTREAM..., for example aegis :8080 "
		        "127.0.0.1:3000\n",
		        argv[optind]);
	return -EINVAL;
}

/* What TLS needs of files; what is not wrong, but soon may be, is told at once. */
static void check_certificates(const struct config *config, struct file_at *at, struct config_errors *errors)
{
	struct vault_findings findings = { 0 };
	if (vault_check(config, (int64_t)time(NULL), at, &findings))
		config_errors_add(errors, "aegis", 0, "tls", "out of memory");
	if (findings.warnings.count)
		fputs(findings.warnings.lines, stderr);
	config_errors_append(errors, &findings.errors);
	vault_findings_clear(&findings);
}

/* Of a user that is not there the start tells. */
static void check_challenges(const struct config *config, struct file_at *at)
{
	struct identity identity;
	struct config_errors warnings = { 0 };
	char why[256];
	if (privileges_resolve(config->user, config->group, &identity, why, sizeof why))
		return;
	challenges_check(config, &identity, at, &warnings);
	if (warnings.count)
		fputs(warnings.lines, stderr);
	config_errors_clear(&warnings);
}

static int refuse(struct config_errors *errors)
{
	fputs(errors->lines, stderr);
	fprintf(stderr, "aegis: %zu error%s\n", errors->count, errors->count == 1 ? "" : "s");
	config_errors_clear(errors);
	return EXIT_ARGUMENTS;
}

static void check_files(const struct config *config, struct file_at *at, struct config_errors *errors)
{
	file_at_begin(at, "admin.token_file: %s", config->admin.token_file);
	control_find_errors(config, errors);
	file_at_end(at);
	check_certificates(config, at, errors);
	check_challenges(config, at);
}

/* In a child: a file may hang. */
static int check_settings(void *arg, struct file_at *at)
{
	const struct arguments *arguments = arg;
	struct config_source source = arguments->source;
	struct config *config;
	struct config_errors errors = { 0 };
	source.at = at;
	if (config_load(&source, &config, &errors))
		return refuse(&errors);
	check_files(config, at, &errors);
	if (errors.count) {
		config_free(config);
		return refuse(&errors);
	}
	if (arguments->mode == MODE_DUMP)
		config_dump(config, stdout);
	else
		printf("%s: the settings are valid: %zu listener%s, %zu upstream%s\n",
		        arguments->source.file ? arguments->source.file : "command line", config->n_listeners,
		        config->n_listeners == 1 ? "" : "s", config->n_upstreams, config->n_upstreams == 1 ? "" : "s");
	config_free(config);
	return EXIT_SUCCESS;
}

static int check(struct arguments *arguments)
{
	struct config_errors errors = { 0 };
	int status = patience_do(check_settings, arguments, &errors);
	return status < 0 ? refuse(&errors) : status;
}

static int version(void)
{
	struct cpu_set cpus;
	cpu_usable("", &cpus);
	printf("aegis %s\n\n", PACKAGE_VERSION);
	char why[160];
	bool ring = ring_probe(why, sizeof why);
	printf("%-12s yes\n", "epoll");
	printf("%-12s %s%s\n", "io_uring", ring ? "yes" : "no: ", ring ? "" : why);
	struct datagram_features udp;
	datagram_probe(&udp);
	printf("%-12s %s%s%s%s%s\n", "udp batches", udp.batches ? "yes: recvmmsg" : "no", udp.gro ? ", UDP_GRO" : "",
	        udp.gso ? ", UDP_SEGMENT" : "", udp.why[0] ? "; " : "", udp.why);
	const char *cares = resolver_cares_version();
	printf("%-12s %s%s\n", "c-ares", cares ? "yes: " : "no: the C library resolves names, in a child process", cares ? cares : "");
	char curl[160];
	bool http_checks = probe_http_available(curl, sizeof curl);
	printf("%-12s %s%s\n", "http checks", http_checks ? "yes: " : "no: ", curl);
#ifdef HAVE_NCURSES
	printf("%-12s yes: ncurses, in colour where the terminal has it\n", "live view");
#else
	printf("%-12s plain: built without ncurses\n", "live view");
#endif
	char api[160];
	bool has_api = http_available(api, sizeof api);
	printf("%-12s %s%s\n", "admin API", has_api ? "yes: " : "no: ", api);
	char tls[160];
	bool has_tls = tls_available(tls, sizeof tls);
	printf("%-12s %s%s\n", "TLS", has_tls ? "yes: " : "no: ", tls);
	char ktls[160];
	const struct kernel_ability able = kernel_probe("");
	printf("%-12s %s\n", "kTLS",
	        has_tls ? kernel_ability_text(&able, ktls, sizeof ktls) : "no: without TLS there is nothing to encrypt");
	printf("%-12s %d usable CPU%s", "workers", cpu_worker_count(&cpus), cpu_worker_count(&cpus) == 1 ? "" : "s");
	printf(" (%d in the affinity mask", cpus.n);
	if (cpus.quota > 0)
		printf(", cgroup quota %.2f", cpus.quota);
	printf(")\n%-12s %s\n", "numa", cpu_numa_nodes() > 0 ? "yes" : "no: the kernel tells of no NUMA nodes");
	printf("%-12s %s\n", "systemd", notify_enabled() ? "yes" : "no: $NOTIFY_SOCKET is not set (not started by systemd)");
	printf("%-12s %s\n", "privileges",
	        geteuid() == 0 ? "root: binds any port, then workers become another user"
	                       : "none: ports from 1024 up, workers stay this user");
	return EXIT_SUCCESS;
}

static int tell_running(const struct arguments *arguments)
{
	char dir[256];
	const char *runtime_dir = arguments->source.runtime_dir;
	struct config *config = NULL;
	struct config_errors errors = { 0 };
	struct hung hung = { 0 };
	/* Where the settings can be read they say where it runs; a file that is broken now must not keep us from stopping it. */
	if (!runtime_dir && arguments->source.file) {
		if (patience_try(&arguments->source, BRIEFLY_NS, &hung, &errors))
			fputs(errors.lines, stderr);
		else if (config_load(&arguments->source, &config, &errors) == 0)
			runtime_dir = config->runtime_dir;
	}
	int status = command_send(runtime_dir ? runtime_dir : runtime_dir_default(dir, sizeof dir), arguments->verb);
	hung_fini(&hung);
	config_errors_clear(&errors);
	config_free(config);
	return status;
}

static int run(struct arguments *arguments)
{
	switch (arguments->mode) {
	case MODE_CHECK:
	case MODE_DUMP:
		return check(arguments);
	case MODE_PLAN:
		return plan_command(&arguments->source, DEFAULT_FILE, arguments->json);
	case MODE_VERSION:
		return version();
	case MODE_SIGNAL:
		return tell_running(arguments);
	case MODE_HELP:
		fputs(usage, stdout);
		return EXIT_SUCCESS;
	case MODE_MANUAL:
		config_manual(stdout);
		return EXIT_SUCCESS;
	case MODE_RUN:
		break;
	}
	notify_init();
	return master_run(&arguments->source, arguments->quick, arguments->argv);
}

/* Started with a standard stream closed, the next descriptor would take its number, and be written to as if it were the log. */
static void open_standard_streams(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	open_standard_streams();
	title_init(argc, argv); /* before anything points into argv */
	struct arguments arguments = { .argv = argv, .overrides = calloc((size_t)argc + 1, sizeof(char *)) };
	if (!arguments.overrides)
		return EXIT_ARGUMENTS;
	int status = EXIT_ARGUMENTS;
	if (parse_arguments(argc, argv, &arguments) == 0) {
		if (!arguments.source.file && !arguments.quick && arguments.mode != MODE_PLAN)
			arguments.source.file = DEFAULT_FILE;
		status = run(&arguments);
	} else {
		fputs("Try `aegis -h`.\n", stderr);
	}
	free(arguments.overrides);
	return status;
}
