#include "os/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

int signals_open(const int *signals)
{
	sigset_t set;
	sigemptyset(&set);
	for (; *signals; signals++) {
		if (sigaddset(&set, *signals) < 0)
			return -errno;
		signal(*signals, SIG_DFL); /* whoever started us may have them ignored, and then they would never be told */
	}
	sigset_t before;
	if (sigprocmask(SIG_BLOCK, &set, &before) < 0)
		return -errno;
	int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd < 0) {
		int err = -errno;
		sigprocmask(SIG_SETMASK, &before, NULL);
		return err;
	}
	signal(SIGPIPE, SIG_IGN); /* a reader that went away is the error of a write, not our end */
	return fd;
}

int signals_next(int fd, int *sender)
{
	struct signalfd_siginfo signal_info;
	ssize_t length;
	do
		length = read(fd, &signal_info, sizeof signal_info);
	while (length < 0 && errno == EINTR);
	if (length != (ssize_t)sizeof signal_info)
		return 0;
	*sender = (int)signal_info.ssi_pid;
	return (int)signal_info.ssi_signo;
}

void signals_for_child(void)
{
	/* A terminal sends to the whole group and systemd may send to the whole cgroup; a worker hears from its master only. */
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGPIPE, SIGTSTP, SIGTTIN, SIGTTOU };
	for (int number = 1; number < NSIG; number++)
		if (number != SIGKILL && number != SIGSTOP)
			signal(number, SIG_DFL); /* refused for the two that the C library keeps for itself */
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		signal(ignored[i], SIG_IGN);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}
