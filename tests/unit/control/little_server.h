/* A server of a few manners on the loop of the test, which sees what the prober does to it. */
#ifndef AEGIS_TESTS_LITTLE_SERVER_H
#define AEGIS_TESTS_LITTLE_SERVER_H

#include "base/addr.h"
#include "os/loop.h"

enum manner {
	ANSWERS,  /* says its text when it was asked something */
	SPEAKS,   /* says its text when a client has come */
	TRICKLES, /* as SPEAKS, a byte at a time */
	FLOODS,   /* as ANSWERS, without end: the text, and then its last bytes again and again */
	CLOSES,   /* says its text when it was asked something, and ends its side */
	HANGS_UP, /* closes at once */
	RESETS,   /* answers with a RST */
	IGNORES,  /* does not even accept */
};

struct little_client;

struct little_server {
	struct loop *loop;
	struct loop_io io;
	struct addr addr; /* where it listens */
	int fd;
	enum manner manner;
	const char *text;
	size_t length;
	struct little_client *clients;
	unsigned accepted;
	unsigned open;
	unsigned most_open;
	unsigned ended;     /* clients that ended their side in an orderly way */
	unsigned reset;     /* clients that sent a RST */
	char received[512]; /* from the last client, NUL-terminated */
	size_t n_received;
};

/* Listen at an address: a port of 0 is chosen by the kernel. backlog as listen(2) has it. */
void little_server_open(struct little_server *server, struct loop *loop, const char *address, int backlog);
void little_server_close(struct little_server *server);
void little_server_behave(struct little_server *server, enum manner manner, const char *text, size_t length);

/* An address at which nobody listens. */
struct addr address_of_nobody(void);

/* Let the loop run until the condition is true; a failed test after 30 s. */
typedef bool condition_fn(void);
void run_until(struct loop *loop, condition_fn *condition, const char *what);

#endif
