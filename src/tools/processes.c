#include "tools/processes.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/privileges.h"
#include "tools/arguments.h"

/* Descriptors that a load process needs beside those of its clients. */
enum { OTHER_DESCRIPTORS = 32, WANTED_DESCRIPTORS = 1 << 20 };

bool processes_have_descriptors(const char *program, const char *clients, uint32_t count, uint32_t processes)
{
	uint64_t most = privileges_raise_descriptors(WANTED_DESCRIPTORS);
	uint64_t each = (count + processes - 1) / processes;
	if (each + OTHER_DESCRIPTORS <= most)
		return true;
	fprintf(stderr, "%s: %" PRIu32 " %s need --processes %" PRIu64 ": a process may have %" PRIu64 " open files\n", program, count,
	        clients, count / (most > OTHER_DESCRIPTORS ? most - OTHER_DESCRIPTORS : 1) + 1, most);
	return false;
}

uint32_t processes_share(uint32_t count, uint32_t processes, uint32_t i)
{
	return count / processes + (i < count % processes);
}

pid_t processes_fork(void)
{
	pid_t parent = getpid(), pid = fork();
	if (pid == 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		_exit(ARGUMENTS_START);
	return pid;
}

bool processes_ended_well(pid_t pid)
{
	int status = 0;
	pid_t ended;
	while ((ended = waitpid(pid, &status, 0)) < 0 && errno == EINTR)
		;
	return ended > 0 && status == 0;
}

uint64_t processes_cpu_ns(void)
{
	struct rusage usage;
	if (getrusage(RUSAGE_SELF, &usage) < 0)
		return 0;
	uint64_t us = (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S + us * NS_PER_US;
}
