/* Built without OpenSSL: no setting needs TLS, for "tls" is refused where it is written (tls/check.h). */
#include <errno.h>
#include <stdio.h>

#include "tls/build.h"
#include "tls/tls.h"

static const char why_not[] = "built without OpenSSL 3 (libssl-dev when it was configured)";

bool tls_available(char *text, size_t size)
{
	(void)snprintf(text, size, "%s", why_not);
	return false;
}

int tls_new(const struct config *config, int vault_fd, const struct tickets *tickets, struct tls **out, char *why, size_t size)
{
	(void)vault_fd;
	(void)tickets;
	if (vault_is_needed(config)) {
		(void)snprintf(why, size, "no TLS: %s", why_not);
		return -ENOSYS;
	}
	*out = NULL;
	return 0;
}

int tls_renew(struct tls *tls, int vault_fd, char *why, size_t size)
{
	(void)tls;
	(void)vault_fd;
	(void)snprintf(why, size, "no TLS: %s", why_not);
	return -ENOSYS;
}

void tls_free(struct tls *tls)
{
	(void)tls;
}

struct tls_server *tls_server_of(const struct tls *tls, uint32_t listener)
{
	(void)tls;
	(void)listener;
	return NULL;
}

struct tls_client *tls_client_of(const struct tls *tls, uint32_t upstream)
{
	(void)tls;
	(void)upstream;
	return NULL;
}

struct ssl_st *tls_server_session(struct tls_server *server)
{
	(void)server;
	return NULL;
}

struct ssl_st *tls_client_session(struct tls_client *client, uint32_t server, const unsigned char *alpn, size_t alpn_length)
{
	(void)client;
	(void)server;
	(void)alpn;
	(void)alpn_length;
	return NULL;
}

void tls_facts(struct ssl_st *ssl, struct tls_facts *out)
{
	(void)ssl;
	*out = (struct tls_facts){ .version = "", .cipher = "", .server_name = "" };
}

const char *tls_peer_name(struct ssl_st *ssl, char *out, size_t size)
{
	(void)ssl;
	(void)snprintf(out, size, "%s", "");
	return out;
}

enum tls_failure tls_failure_of(struct ssl_st *ssl, char *text, size_t size)
{
	(void)ssl;
	(void)snprintf(text, size, "%s", why_not);
	return TLS_FAILURE_OWN;
}

struct kernel_ability tls_kernel_ability(const struct tls *tls)
{
	(void)tls;
	return (struct kernel_ability){ 0 };
}

int tls_new_for_checks(const struct config *config, int excerpt_fd, struct tls **out, char *why, size_t size)
{
	return tls_new(config, excerpt_fd, NULL, out, why, size);
}

const char *tls_client_name(const struct tls_client *client, uint32_t server)
{
	(void)client;
	(void)server;
	return "";
}

bool tls_client_was_asked(const struct tls_client *client, uint32_t server)
{
	(void)client;
	(void)server;
	return false;
}

enum tls_distrust tls_distrust_of(struct ssl_st *ssl)
{
	(void)ssl;
	return TLS_DISTRUST_NOTHING;
}
