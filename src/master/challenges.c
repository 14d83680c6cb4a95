#include "master/challenges.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: 0 or the errno. */
static int try(const struct identity *identity, const char *folder)
{
	if (privileges_drop(identity))
		return 0;
	if (open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC) < 0)
		return errno;
	return faccessat(AT_FDCWD, folder, X_OK, AT_EACCESS) < 0 ? errno : 0;
}

/* 0, or the errno with which they cannot look into it; that of who could not even ask is 0, too. */
static int why_not(const struct identity *identity, const char *folder)
{
	int status;
	pid_t pid = fork();
	if (pid < 0)
		return 0;
	if (pid == 0)
		_exit(try(identity, folder));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
}

void challenges_check(const struct config *config, const struct identity *identity, struct file_at *at, struct config_errors *warnings)
{
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_config *listener = &config->listeners[i];
		char who[CONFIG_NAME_SIZE + 16];
		int error = 0;
		(void)snprintf(who, sizeof who, "listener %s", listener->name);
		if (listener->acme.challenges[0] != '\0' && listener->protocol == PROTOCOL_TCP) {
			file_at_begin(at, "%s: acme.challenges: %s", who, listener->acme.challenges);
			error = why_not(identity, listener->acme.challenges);
			file_at_end(at);
		}
		if (!error)
			continue;
		config_errors_add(warnings, who, 0, "acme.challenges",
		        "workers%s%s cannot look into %s: %s; until they can, challenges go on to the upstream",
		        identity->change ? " as " : "", identity->change ? identity->user : "", listener->acme.challenges, strerror(error));
	}
}
