#include "base/file_at.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

void file_at_begin(struct file_at *at, const char *format, ...)
{
	va_list args;
	if (!at)
		return;
	va_start(args, format);
	(void)vsnprintf(at->what, sizeof at->what, format, args);
	va_end(args);
	atomic_fetch_add(&at->turns, 1);
}

void file_at_end(struct file_at *at)
{
	if (at)
		atomic_fetch_add(&at->turns, 1);
}
