#include "os/ring_refusal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

static const char *refusal_of_eperm(int disabled)
{
	switch (disabled) {
	case 1:
		return "only for members of kernel.io_uring_group (kernel.io_uring_disabled = 1)";
	case 2:
		return "switched off (kernel.io_uring_disabled = 2)";
	default:
		return "forbidden here (EPERM: a seccomp filter, as containers have)";
	}
}

void ring_refusal(int error, int disabled, const char *release, char *why, size_t why_size)
{
	switch (error) {
	case EPERM:
		snprintf(why, why_size, "%s", refusal_of_eperm(disabled));
		return;
	case EACCES:
		snprintf(why, why_size, "forbidden here (EACCES: a security module such as SELinux)");
		return;
	case ENOSYS:
		snprintf(why, why_size, "not in this kernel, or hidden by a seccomp filter (ENOSYS)");
		return;
	case EINVAL:
		snprintf(why, why_size, "kernel too old: this is %s, 6.1 is needed", release);
		return;
	case ENOMEM:
		snprintf(why, why_size, "out of memory, or of memory that may be locked (ulimit -l, LimitMEMLOCK=)");
		return;
	case EMFILE:
	case ENFILE:
		snprintf(why, why_size, "out of descriptors");
		return;
	default:
		snprintf(why, why_size, "%s", strerror(error));
	}
}

void ring_refusal_here(int error, char *why, size_t why_size)
{
	int disabled = -1;
	FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
	if (file) {
		if (fscanf(file, "%d", &disabled) != 1)
			disabled = -1;
		fclose(file);
	}
	struct utsname name;
	ring_refusal(error, disabled, uname(&name) == 0 ? name.release : "unknown", why, why_size);
}
