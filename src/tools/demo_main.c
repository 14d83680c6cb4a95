/* aegis-demo: see demo.h and aegis-demo(1). */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "os/privileges.h"
#include "os/signals.h"
#include "tools/demo.h"

static const char usage[] =
        "usage: aegis-demo [-n NAME] [-H ADDRESS] [-e ADDRESS] [-u ADDRESS] [-b ADDRESS] [-r ADDRESS] [-s ADDRESS] [-g ADDRESS]\n"
        "Small servers to try Aegis with. Every option but -n can be given several times.\n"
        "  -n NAME     the name that the servers tell (demo)\n"
        "  -H ADDRESS  HTTP: /, /health, /bytes?n=SIZE, POST /count\n"
        "  -e ADDRESS  TCP echo\n"
        "  -u ADDRESS  UDP echo; ADDRESS,delay=10ms,answers=2,named answers so much later, so often, and with the name in front\n"
        "  -b ADDRESS  TCP: sends \"220 NAME ready\", then echoes\n"
        "  -r ADDRESS  TCP: resets the connection after the first byte\n"
        "  -s ADDRESS  TCP: reads to the end of input, then answers the number of bytes and their FNV-1a hash\n"
        "  -g ADDRESS  TCP: reads a number and a newline, then sends that many bytes\n"
        "  -h          this text\n"
        "  -V          the version\n"
        "An ADDRESS is 127.0.0.1:8080, [::1]:8080, *:8080 or unix:/path; port 0 lets the kernel choose. Each one is printed when it\n"
        "is bound, then \"ready\". SIGUSR1 makes /health fail, a second one lets it succeed again; SIGTERM and SIGINT stop.\n";

/* The exit codes, as in the manual page. */
enum { EXIT_OK = 0, EXIT_ARGUMENTS = 1, EXIT_START = 2 };

static void on_signal(struct loop_io *io, int events)
{
	(void)events;
	struct demo *demo = container_of(io, struct demo, signals);
	int sender;
	for (int number = signals_next(demo->signals_fd, &sender); number != 0; number = signals_next(demo->signals_fd, &sender)) {
		if (number == SIGUSR1)
			demo->healthy = !demo->healthy;
		else
			loop_stop(demo->loop);
	}
}

/* The name goes into headers: printable, and not too long. */
static int set_name(struct demo *demo, const char *name)
{
	size_t length = strlen(name);
	bool good = length > 0 && length < sizeof demo->name;
	for (size_t i = 0; i < length; i++)
		good = good && name[i] > ' ' && name[i] <= '~';
	if (!good) {
		fprintf(stderr, "aegis-demo: -n: a name has 1 to %d printable letters and no space\n", DEMO_NAME_SIZE - 1);
		return -EINVAL;
	}
	memcpy(demo->name, name, length + 1);
	return 0;
}

static const char letters[] = ":n:H:e:u:b:r:s:g:hV";

/* First pass: everything that needs no socket. Exit code, or -1 to go on. */
static int read_options(struct demo *demo, int argc, char **argv)
{
	int option, addresses = 0;
	while ((option = getopt(argc, argv, letters)) != -1) {
		if (option == 'h' || option == 'V') {
			fputs(option == 'h' ? usage : "aegis-demo " PACKAGE_VERSION "\n", stdout);
			return EXIT_OK;
		}
		if (option == '?' || option == ':') {
			fprintf(stderr, "aegis-demo: %s -%c; see aegis-demo -h\n",
			        option == '?' ? "there is no option" : "a value is missing after", optopt);
			return EXIT_ARGUMENTS;
		}
		if (option == 'n' && set_name(demo, optarg) < 0)
			return EXIT_ARGUMENTS;
		addresses += option != 'n';
	}
	if (optind < argc) {
		fprintf(stderr, "aegis-demo: what is \"%s\"? Addresses stand behind options; see aegis-demo -h\n", argv[optind]);
		return EXIT_ARGUMENTS;
	}
	if (addresses == 0) {
		fputs("aegis-demo: nothing to serve; try: aegis-demo -H 127.0.0.1:8081\n", stderr);
		return EXIT_ARGUMENTS;
	}
	return -1;
}

static int open_addresses(struct demo *demo, int argc, char **argv)
{
	int option, rc = 0;
	optind = 1;
	while (rc == 0 && (option = getopt(argc, argv, letters)) != -1) {
		if (option == 'u')
			rc = demo_udp(demo, optarg);
		else if (option == 'H')
			rc = demo_listen(demo, service_http(), optarg);
		else if (option != 'n')
			rc = demo_listen(demo, service_stream((char)option), optarg);
	}
	return rc;
}

static int open_signals(struct demo *demo)
{
	static const int list[] = { SIGTERM, SIGINT, SIGUSR1, 0 };
	demo->signals_fd = signals_open(list);
	if (demo->signals_fd < 0)
		return demo->signals_fd;
	loop_io_init(&demo->signals, on_signal);
	ensure(loop_io_set(demo->loop, &demo->signals, demo->signals_fd, LOOP_READ) ==
	        0); /* a demo has no plan for a kernel without memory */
	return 0;
}

int main(int argc, char **argv)
{
	int code = EXIT_START;
	struct demo *demo = calloc(1, sizeof *demo);
	if (demo == NULL)
		goto out;
	demo->signals_fd = -1;
	demo->healthy = true;
	memcpy(demo->name, "demo", sizeof "demo");
	code = read_options(demo, argc, argv);
	if (code >= 0)
		goto out;
	code = EXIT_START;
	pattern_fill(&demo->pattern);
	privileges_raise_descriptors(1 << 20);
	demo->loop = loop_new();
	if (demo->loop == NULL || open_signals(demo) < 0) {
		fputs("aegis-demo: cannot start: no epoll or no memory\n", stderr);
		goto out;
	}
	int rc = open_addresses(demo, argc, argv);
	if (rc < 0) {
		code = rc == -EINVAL ? EXIT_ARGUMENTS : EXIT_START;
		goto out;
	}
	puts("ready");
	fflush(stdout);
	loop_run(demo->loop);
	code = EXIT_OK;

out:
	if (demo != NULL && demo->loop != NULL) {
		demo_close_all(demo);
		demo_udp_close_all(demo);
		loop_io_stop(demo->loop, &demo->signals);
		loop_free(demo->loop);
	}
	if (demo != NULL && demo->signals_fd >= 0)
		close(demo->signals_fd);
	free(demo);
	return code;
}
