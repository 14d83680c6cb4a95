/* The files one by one, and what is wrong with them. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tls/build_own.h"

void build_say(struct build *build, bool warning, const struct tls_file *file, const char *format, ...)
{
	char setting[96], text[768];
	int line;
	const char *place = tls_file_place(build->config, file, &line);
	va_list args;

	va_start(args, format);
	(void)vsnprintf(text, sizeof text, format, args);
	va_end(args);
	config_errors_add(warning ? &build->findings->warnings : &build->findings->errors, place, line,
	        tls_file_setting(file, setting, sizeof setting), "%s: %s", file->path, text);
}

static void say_unreadable(struct build *build, const struct tls_file *file)
{
	if (file->error == ENOENT || file->error == ENOTDIR)
		wrong(build, file, "there is no such file; write where it is");
	else if (file->error == EACCES || file->error == EPERM)
		wrong(build, file, "it cannot be read: %s; give the user that starts Aegis the right to, or run this as root",
		        strerror(file->error));
	else if (file->error == EISDIR)
		wrong(build, file, "it is no regular file");
	else if (file->error == ENODATA)
		wrong(build, file, "it is empty");
	else if (file->error == EFBIG)
		wrong(build, file, "it is longer than 16 MB");
	else
		wrong(build, file, "it cannot be read: %s", strerror(file->error));
}

const struct tls_file *build_take(struct build *build, enum file_role role, uint32_t owner, uint32_t item)
{
	const struct tls_file *file = build->next < build->files->n ? &build->files->files[build->next] : NULL;

	if (!file || file->role != role || file->owner != owner || file->item != item)
		return NULL;
	build->next++;
	if (file->error)
		say_unreadable(build, file);
	return file;
}

void vault_findings_clear(struct vault_findings *findings)
{
	config_errors_clear(&findings->errors);
	config_errors_clear(&findings->warnings);
	free(findings->facts);
	*findings = (struct vault_findings){ 0 };
}
