/* A child that runs a function one machine instruction at a time, so that a test can look at shared memory, or do something with
 * it, between any two of them. Only where the debugger's interface is there and steps over a compare and swap as a whole. */
#ifndef AEGIS_TESTS_STEPPING_H
#define AEGIS_TESTS_STEPPING_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

static inline bool stepping_possible(void)
{
#if defined(__x86_64__)
	pid_t pid = fork();
	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1);
	int status;
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
#else
	return false;
#endif
}

/* The child stands still just before the function. Its pid. */
static inline pid_t stepping_start(void (*function)(void *), void *argument)
{
	pid_t pid = fork();
	if (pid == 0) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0 || raise(SIGSTOP) != 0)
			_exit(1);
		function(argument);
		_exit(0);
	}
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		abort();
	return pid;
}

/* One instruction. False when the child came to its end with that. */
static inline bool stepping_step(pid_t pid)
{
	int status;
	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
		abort();
	return WIFSTOPPED(status);
}

/* Let it run to its end. True when it came there. */
static inline bool stepping_finish(pid_t pid)
{
	int status;
	if (ptrace(PTRACE_CONT, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid)
		abort();
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* The steps of the function at which what is at `memory` changes: *first and *last of them, counted from 1. How many there are. */
static inline uint32_t stepping_changes(void (*function)(void *), const void *memory, size_t size, uint32_t *first, uint32_t *last)
{
	void *before = malloc(size);
	if (!before)
		abort();
	memcpy(before, memory, size);
	uint32_t changes = 0;
	pid_t pid = stepping_start(function, NULL);
	for (uint32_t step = 1; stepping_step(pid); step++) {
		if (memcmp(before, memory, size) == 0)
			continue;
		memcpy(before, memory, size);
		if (changes++ == 0)
			*first = step;
		*last = step;
	}
	free(before);
	return changes;
}

/* For each place from just before the first change to just after the last one: prepare(), run the function up to there, and let
 * look() do the rest with the child. With sanitizers, or without optimization, only some of what are thousands of instructions. */
static inline void stepping_stop_everywhere(
        void (*prepare)(void), void (*function)(void *), const void *memory, size_t size, void (*look)(pid_t pid))
{
	uint32_t first = 0, last = 0;
	prepare();
	if (stepping_changes(function, memory, size, &first, &last) == 0)
		abort();
	uint32_t stride = (last - first) / 100 + 1;
	for (uint32_t stop = first - 1; stop <= last; stop += stride) {
		prepare();
		pid_t pid = stepping_start(function, NULL);
		for (uint32_t step = 0; step < stop; step++)
			if (!stepping_step(pid))
				abort();
		look(pid);
	}
}

#endif
