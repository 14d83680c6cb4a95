/* handshakes PORT COUNT full|resumed: so many connections with TLS 1.3 to 127.0.0.1, one after the other, each with an echo of one byte and
 * a proper end on both sides. Prints how many were resumed. Compiled by contrib/bench/tls. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static SSL_SESSION *session;

static int on_session(SSL *ssl, SSL_SESSION *fresh)
{
	(void)ssl;
	SSL_SESSION_free(session);
	session = fresh;
	return 1;
}

static int connect_to(int port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
		perror("connect");
		exit(1);
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
	return fd;
}

/* True when the session was resumed. */
static int exchange(SSL_CTX *ctx, int port, int resume)
{
	char byte = 'x';
	int fd = connect_to(port);
	SSL *ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	if (resume && session)
		SSL_set_session(ssl, session);
	if (SSL_connect(ssl) != 1 || SSL_write(ssl, &byte, 1) != 1 || SSL_read(ssl, &byte, 1) != 1) {
		fprintf(stderr, "no handshake, or no echo\n");
		exit(1);
	}
	int resumed = SSL_session_reused(ssl);
	SSL_shutdown(ssl);
	shutdown(fd, SHUT_WR);
	while (read(fd, &byte, 1) > 0)
		;
	close(fd);
	SSL_free(ssl);
	return resumed;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: handshakes PORT COUNT full|resumed\n");
		return 1;
	}
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, on_session);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256");
	long count = atol(argv[2]), resumed = 0;
	for (long i = 0; i < count; i++)
		resumed += exchange(ctx, atoi(argv[1]), argv[3][0] == 'r');
	printf("%ld\n", resumed);
	return 0;
}
