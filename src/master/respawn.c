#include "master/respawn.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

enum { MOST_DOUBLINGS = 7 };

uint64_t respawn_delay_ns(uint32_t *quick_deaths, uint64_t lived_ns, uint64_t most_ns)
{
	*quick_deaths = lived_ns < RESPAWN_STEADY_NS ? *quick_deaths + 1 : 0;
	if (*quick_deaths <= 1)
		return 0;
	uint32_t doublings = *quick_deaths - 2 < MOST_DOUBLINGS ? *quick_deaths - 2 : MOST_DOUBLINGS;
	uint64_t delay_ns = RESPAWN_FIRST_NS << doublings;
	return delay_ns < most_ns ? delay_ns : most_ns;
}

const char *respawn_end_text(int status, char text[static RESPAWN_END_SIZE])
{
	if (WIFSIGNALED(status))
		(void)snprintf(text, RESPAWN_END_SIZE, "was killed by signal %d (%s)%s", WTERMSIG(status), strsignal(WTERMSIG(status)),
		        WCOREDUMP(status) ? ", core dumped" : "");
	else
		(void)snprintf(text, RESPAWN_END_SIZE, "exited with status %d", WEXITSTATUS(status));
	return text;
}
