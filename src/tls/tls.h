/* TLS as a worker needs it: with what sessions begin, and what came of them. What moves their bytes is elsewhere.
 *
 * Process: a worker. struct tls has a struct tls_server for each listener with TLS and a struct tls_client for each upstream with TLS.
 * Owner:   the worker, until it exits. Sessions (SSL) are the caller's, to be given back with SSL_free(); a server or client outlives them,
 *          also when its certificates change: a handshake that is under way goes on with what it has.
 * Use:     SSL_set_bio() or SSL_set_fd(), then SSL_do_handshake(). Sessions never renegotiate, neither compress nor send early data, take a
 *          partial write from a buffer that may move, release their buffers while idle, and tell the end of the stream
 * (SSL_ERROR_ZERO_RETURN) from one that was cut off (SSL_ERROR_SSL, TLS_FAILURE_TRUNCATED). SSL_set_app_data() is free for the caller.
 *
 * This header names no header of OpenSSL's: who calls SSL_*() includes tls/openssl.h.
 */
#ifndef AEGIS_TLS_TLS_H
#define AEGIS_TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/attr.h"
#include "config/config.h"
#include "tls/kernel.h"

struct ssl_st;
struct tickets;
struct tls;
struct tls_server;
struct tls_client;

/* Whether this build has TLS: what it is ("OpenSSL 3.0.2 ..."), or why there is none. For "aegis -V". */
bool tls_available(char *text, size_t size);

/* All of a worker, with the certificates of a vault (tls/vault.h); the descriptor stays the caller's, and is not needed any more after
 * that. tickets: NULL = this process alone can resume its sessions. 0 and *out, which is NULL where no setting needs TLS, or a negative
 * errno and why, a sentence. */
must_check int tls_new(const struct config *config, int vault_fd, const struct tickets *tickets, struct tls **out, char *why, size_t size);
/* The same for who checks servers, with an excerpt of a vault (vault_excerpt()): a struct tls_client for each upstream whose checks speak
 * TLS, and nothing else. Its sessions are never resumed: a server shows its certificate in a full handshake only. */
must_check int tls_new_for_checks(const struct config *config, int excerpt_fd, struct tls **out, char *why, size_t size);
/* Other certificates for the same settings: sessions that begin from now on have them. 0, or a negative errno and why: nothing changed. */
must_check int tls_renew(struct tls *tls, int vault_fd, char *why, size_t size);
void tls_free(struct tls *tls);

/* Of a listener or an upstream, by its index in the settings; NULL where it is plain, or tls is NULL. */
struct tls_server *tls_server_of(const struct tls *tls, uint32_t listener);
struct tls_client *tls_client_of(const struct tls *tls, uint32_t upstream);

/* What the kernel may take over of sessions (see tls/stream.h); nothing where tls is NULL. */
struct kernel_ability tls_kernel_ability(const struct tls *tls);

/* A session with a client, before the handshake. NULL: out of memory. */
struct ssl_st *tls_server_session(struct tls_server *server);

/* One with a server of the upstream, by its index there; alpn is what was agreed with the client and goes on to the server where the
 * settings say nothing else (length 0: nothing). A session with the same server and name is resumed where there is one. NULL: out of
 * memory. */
struct ssl_st *tls_client_session(struct tls_client *client, uint32_t server, const unsigned char *alpn, size_t alpn_length);

/* Of checks, whose alpn goes before that of the settings: whom the session with this server asks for, "" = nobody; whether the server
 * wanted a certificate of us in the last one, which it may refuse after the handshake is over (TLS 1.3). */
const char *tls_client_name(const struct tls_client *client, uint32_t server);
must_check bool tls_client_was_asked(const struct tls_client *client, uint32_t server);

/* Of a session after its handshake. The texts live as long as the session; nothing in them but printable ASCII, but for alpn. */
struct tls_facts {
	const char *version; /* "TLSv1.3" */
	const char *cipher;
	uint16_t cipher_number;  /* in the registry of TLS */
	const char *server_name; /* that the client asked for, "" = none */
	const unsigned char *alpn;
	size_t alpn_length; /* 0 = none */
	bool resumed;
	bool peer_verified; /* the peer showed a certificate, and it is good */
};
void tls_facts(struct ssl_st *ssl, struct tls_facts *out);

/* Who the peer is by its verified certificate: the common name, else the first DNS name or mail address, else the subject in one line; ""
 * where there is none. What is not printable ASCII is escaped. Returns out. */
const char *tls_peer_name(struct ssl_st *ssl, char *out, size_t size);

/* What is wrong with a certificate. */
enum tls_distrust {
	TLS_DISTRUST_NOTHING, /* or it came not so far */
	TLS_DISTRUST_EXPIRED,
	TLS_DISTRUST_NOT_YET,
	TLS_DISTRUST_NAME,   /* it is for another one */
	TLS_DISTRUST_ISSUER, /* of nobody who is trusted */
	TLS_DISTRUST_REVOKED,
	TLS_DISTRUST_LIST, /* there is no revocation list that is in force */
	TLS_DISTRUST_OTHER,
	N_TLS_DISTRUSTS
};
/* Of the peer's, after a handshake that failed. */
enum tls_distrust tls_distrust_of(struct ssl_st *ssl);

/* Why a call failed with SSL_ERROR_SSL. */
enum tls_failure {
	TLS_FAILURE_NOT_TLS,     /* what came is no TLS at all */
	TLS_FAILURE_VERSION,     /* a version that is not spoken */
	TLS_FAILURE_NO_COMMON,   /* no cipher, group, signature or ALPN in common */
	TLS_FAILURE_CERTIFICATE, /* the peer's is missing, expired, revoked, of another name, or of somebody unknown */
	TLS_FAILURE_ALERT,       /* the peer gave up, and said so */
	TLS_FAILURE_TRUNCATED,   /* the peer closed without a close_notify */
	TLS_FAILURE_PROTOCOL,    /* anything else that the peer did wrong */
	TLS_FAILURE_OWN,         /* out of memory, or something that is not the peer's fault */
	N_TLS_FAILURES
};
/* Takes the thread's queue of errors. text is what OpenSSL says, without what peers could write into it. */
enum tls_failure tls_failure_of(struct ssl_st *ssl, char *text, size_t size);

#endif
