/* floor_tls PORT SERVER_PORT CERT KEY: the least that ends TLS, for contrib/bench/tls. It does for one connection after the other what a
 * proxy does for each of them (handshake, one ticket, a connection to the server, an echo, a proper end on both sides), and nothing else:
 * it has no loop, no limits, no logs, no choice of certificates, and waits in every call. What it takes is OpenSSL's own share, and the
 * kernel's. Both on 127.0.0.1. Compiled by contrib/bench/tls.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr_in on_loopback(const char *port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
}

static void insist(int done, const char *what)
{
	if (done)
		return;
	fprintf(stderr, "floor_tls: %s\n", what);
	exit(1);
}

static SSL_CTX *make_context(const char *cert, const char *key)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	insist(SSL_CTX_use_certificate_chain_file(ctx, cert) == 1, "no certificate");
	insist(SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1, "no key");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 1);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"floor", 5);
	return ctx;
}

static int listen_on(const char *port)
{
	struct sockaddr_in address = on_loopback(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	insist(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 128) == 0, "cannot listen");
	return fd;
}

/* Until the client says that nothing more comes: each message to the server, each answer back. */
static void relay(SSL *ssl, int server)
{
	char bytes[4096];
	int count;
	while ((count = SSL_read(ssl, bytes, sizeof bytes)) > 0) {
		if (send(server, bytes, (size_t)count, MSG_NOSIGNAL) != count)
			return;
		ssize_t answer = recv(server, bytes, sizeof bytes, 0);
		if (answer <= 0 || SSL_write(ssl, bytes, (int)answer) != answer)
			return;
	}
	shutdown(server, SHUT_WR);
	while (recv(server, bytes, sizeof bytes, 0) > 0)
		;
	SSL_shutdown(ssl);
}

static void serve(SSL_CTX *ctx, int client, const struct sockaddr_in *address)
{
	SSL *ssl = SSL_new(ctx);
	int server = -1;
	SSL_set_fd(ssl, client);
	SSL_set_read_ahead(ssl, 1);
	if (SSL_accept(ssl) == 1) {
		server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(server, (const struct sockaddr *)address, sizeof *address) == 0)
			relay(ssl, server);
		close(server);
	}
	SSL_free(ssl);
	close(client);
}

int main(int argc, char **argv)
{
	insist(argc == 5, "usage: floor_tls PORT SERVER_PORT CERT KEY");
	SSL_CTX *ctx = make_context(argv[3], argv[4]);
	struct sockaddr_in server = on_loopback(argv[2]);
	int listener = listen_on(argv[1]), client;
	while ((client = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		serve(ctx, client, &server);
	return 0;
}
