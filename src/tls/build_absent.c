/* Built without OpenSSL: settings that need it are refused. */
#include <errno.h>
#include <stdio.h>

#include "tls/build.h"
#include "tls/tls.h"

bool vault_is_needed(const struct config *config)
{
	for (size_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].tls.enabled && config->listeners[i].protocol == PROTOCOL_TCP)
			return true;
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (upstream_has_tls(&config->upstreams[i]))
			return true;
	return false;
}

static void refuse(struct config_errors *errors, const char *file, int line, const char *list, size_t index, const char *group)
{
	char why[160], path[64];

	(void)tls_available(why, sizeof why);
	(void)snprintf(path, sizeof path, "%s[%zu].%stls", list, index, group);
	config_errors_add(errors, file, line, path, "Aegis was %s; leave tls out, or build it again", why);
}

int vault_build(const struct config *config, const struct tls_files *files, int64_t now_s, int fd, struct vault_findings *findings)
{
	(void)files;
	(void)fd;
	return vault_check(config, now_s, NULL, findings);
}

int vault_check(const struct config *config, int64_t now_s, struct file_at *at, struct vault_findings *findings)
{
	(void)at;
	(void)now_s;
	for (size_t i = 0; i < config->n_listeners; i++)
		if (config->listeners[i].tls.enabled)
			refuse(&findings->errors, config->listeners[i].tls.file, config->listeners[i].tls.line, "listeners", i, "");
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (upstream_has_tls(&config->upstreams[i]))
			refuse(&findings->errors, config->upstreams[i].tls.file, config->upstreams[i].tls.line, "upstreams", i,
			        config->upstreams[i].tls.enabled ? "" : "health.");
	return 0;
}

int vault_make_fd(void)
{
	return -ENOSYS;
}

void vault_findings_clear(struct vault_findings *findings)
{
	config_errors_clear(&findings->errors);
	config_errors_clear(&findings->warnings);
	free(findings->facts);
	*findings = (struct vault_findings){ 0 };
}
