/* What cannot be undone, or must not be seen by the other tests, is checked in a child. Include after cmocka.h. */
#ifndef AEGIS_TESTS_IN_CHILD_H
#define AEGIS_TESTS_IN_CHILD_H

#include <sys/wait.h>
#include <unistd.h>

/* The check returns 0, or a number that says where it failed. */
static void in_child(int (*check)(void))
{
	pid_t child = fork();
	if (child == 0)
		_exit(check());
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	if (status)
		fail_msg("the check failed: status %#x", (unsigned)status);
}

#endif
