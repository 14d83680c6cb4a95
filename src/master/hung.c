#include "master/hung.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"

#define DYING_NS NS_PER_S /* so long one that does not hang may take where there is much to do */
#define LAST_NS (500 * NS_PER_MS)

enum { LOOK_MS = 5 };

static bool has_ended(pid_t pid)
{
	pid_t ended = waitpid(pid, NULL, WNOHANG);
	return ended == pid || (ended < 0 && errno == ECHILD);
}

void hung_end(struct hung *hung, pid_t pid, uint64_t now_ns)
{
	(void)kill(pid, SIGKILL);
	if (has_ended(pid))
		return;
	if (hung->n < HUNG_MOST) {
		hung->children[hung->n].pid = pid;
		hung->children[hung->n++].since_ns = now_ns;
	} else {
		log_error("process %d does not end, as many others: it is left to itself", (int)pid);
	}
}

bool hung_reap_one(struct hung *hung)
{
	for (uint32_t i = 0; i < hung->n; i++)
		if (has_ended(hung->children[i].pid)) {
			hung->children[i] = hung->children[--hung->n];
			return true;
		}
	return false;
}

bool hung_too_many(const struct hung *hung, uint64_t now_ns)
{
	uint32_t count = 0;
	for (uint32_t i = 0; i < hung->n; i++)
		count += now_ns - hung->children[i].since_ns > DYING_NS;
	return count >= HUNG_BEARABLE || hung->n == HUNG_MOST;
}

void hung_fini(struct hung *hung)
{
	uint64_t until_ns = clock_now_ns() + LAST_NS;
	while (hung->n > 0) {
		if (hung_reap_one(hung))
			continue;
		if (clock_now_ns() >= until_ns)
			break;
		(void)poll(NULL, 0, LOOK_MS); /* SIGCHLD comes through a descriptor that is closed by now */
	}
	for (uint32_t i = 0; i < hung->n; i++)
		log_warn("process %d hangs in the kernel, where no signal reaches it: it ends when its disk answers",
		        (int)hung->children[i].pid);
	hung->n = 0;
}
