/* Preloaded into a program, stands in for a kernel with TLS for sockets (kTLS), of what is sent: setsockopt(TCP_ULP) and (SOL_TLS, TLS_TX),
 * send(), sendmsg() with the type of a record, shutdown() and close() of such sockets do what those of the kernel do (net/tls/tls_sw.c of
 * Linux), with records by OpenSSL:
 *   - each call makes records of its own, of at most 16 kB; a record is made whole, and counts as sent;
 *   - what TCP has no room for is kept, and sent before anything else, when there is room: by whoever sends next, or by a thread of ours
 *     (the kernel has a worker for it). While something is kept nothing more is taken: EAGAIN;
 *   - who shuts or closes the socket then loses what is kept;
 *   - new keys are taken with TLS 1.3 alone, of the same cipher; and only an established connection takes any.
 * Not as the kernel: a sendmsg() has one part; MSG_MORE, splice(), sendfile(), write() and what is received are not its business.
 *
 * $AEGIS_KERNEL_TLS, words with commas between them, says what kind of kernel it is:
 *   yes      all of it
 *   old      it takes no new keys (Linux before 6.14)
 *   only12   TLS 1.2 alone
 *   tail     the end of every record is kept for a while, though there is room
 *   ulp=N, keys=N, new_keys=N   TCP_ULP, first or later keys fail with errno N, but for the first ones, by which a program finds out
 *            what there is
 */
#include <dlfcn.h>
#include <errno.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

enum { MOST_FDS = 65536, RECORD_BYTES = 16384, RECORD_MOST = RECORD_BYTES + 64, HEAD_BYTES = 5, TAG_BYTES = 16 };
enum {
	DATA = 23,
	PROBES = 6 /* with each version and cipher */,
	PROBES_WITH_NEW_KEYS = 3,
	FLUSH_NS = 2000000,
	TAIL_FLUSHES = 10,
	TAIL_BYTES = 40
};

struct tls_socket {
	ino_t inode; /* which socket it is: numbers are used again */
	bool has_keys;
	union {
		struct tls_crypto_info head;
		struct tls12_crypto_info_aes_gcm_128 aes_128;
		struct tls12_crypto_info_aes_gcm_256 aes_256;
		struct tls12_crypto_info_chacha20_poly1305 chacha20;
	} info;
	socklen_t info_size;
	unsigned char iv[12], sequence[8];
	EVP_CIPHER_CTX *cipher;
	unsigned char kept[RECORD_MOST];
	size_t kept_from, kept_to;
	int patience; /* flushes to wait for: "tail" */
};

static struct tls_socket *sockets[MOST_FDS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t flusher_of; /* the process in which the thread runs */
static int calls_ulp, calls_keys, calls_new_keys;
static pid_t calls_of;

static void *next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

#define REAL(name, type)              \
	static __typeof__(type) real; \
	if (!real)                    \
	*(void **)&real = next(name)

/* "word" or "word=N" in what the environment says: N, or 1; 0 = not there. */
static int kind(const char *word)
{
	const char *text = getenv("AEGIS_KERNEL_TLS");
	size_t length = strlen(word);
	for (; text && *text; text += strcspn(text, ",") + (text[strcspn(text, ",")] == ','))
		if (strncmp(text, word, length) == 0 && strchr(",=", text[length]))
			return text[length] == '=' ? atoi(text + length + 1) : 1;
	return 0;
}

static ssize_t real_send(int fd, const void *bytes, size_t count)
{
	REAL("send", ssize_t(*)(int, const void *, size_t, int));
	return real(fd, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void forget(int fd)
{
	EVP_CIPHER_CTX_free(sockets[fd]->cipher);
	free(sockets[fd]);
	sockets[fd] = NULL;
}

static struct tls_socket *find(int fd)
{
	struct stat stat;
	if (fd < 0 || fd >= MOST_FDS || !sockets[fd])
		return NULL;
	if (fstat(fd, &stat) == 0 && stat.st_ino == sockets[fd]->inode)
		return sockets[fd];
	forget(fd);
	return NULL;
}

/* --- records ----------------------------------------------------------------------------------------------------------------- */

static void count_up(unsigned char *number, int length)
{
	while (length-- > 0 && ++number[length] == 0)
		;
}

static bool is_13(const struct tls_socket *socket)
{
	return socket->info.head.version == TLS_1_3_VERSION;
}

static bool has_own_nonce(const struct tls_socket *socket)
{
	return !is_13(socket) && socket->info.head.cipher_type != TLS_CIPHER_CHACHA20_POLY1305;
}

/* The record lies in kept. */
static void make_record(struct tls_socket *socket, unsigned char type, const unsigned char *bytes, size_t count)
{
	unsigned char nonce[12], extra[13], *out = socket->kept;
	size_t own = has_own_nonce(socket) ? 8 : 0, inner = count + (is_13(socket) ? 1 : 0), length = own + inner + TAG_BYTES, n_extra;
	int done;

	memcpy(nonce, socket->iv, sizeof nonce);
	for (int i = 0; own == 0 && i < 8; i++)
		nonce[4 + i] ^= socket->sequence[i];
	out[0] = is_13(socket) ? DATA : type;
	out[1] = out[2] = 3;
	out[3] = (unsigned char)(length >> 8);
	out[4] = (unsigned char)length;
	memcpy(out + HEAD_BYTES, nonce + 4, own);
	if (is_13(socket)) {
		memcpy(extra, out, n_extra = HEAD_BYTES);
	} else {
		memcpy(extra, socket->sequence, 8);
		memcpy(extra + 8, out, 3);
		extra[11] = (unsigned char)(count >> 8);
		extra[12] = (unsigned char)count;
		n_extra = sizeof extra;
	}
	unsigned char *at = out + HEAD_BYTES + own;
	EVP_EncryptInit_ex(socket->cipher, NULL, NULL, NULL, nonce);
	EVP_EncryptUpdate(socket->cipher, NULL, &done, extra, (int)n_extra);
	EVP_EncryptUpdate(socket->cipher, at, &done, bytes, (int)count);
	if (is_13(socket))
		EVP_EncryptUpdate(socket->cipher, at + count, &done, &type, 1);
	EVP_EncryptFinal_ex(socket->cipher, at + inner, &done);
	EVP_CIPHER_CTX_ctrl(socket->cipher, EVP_CTRL_AEAD_GET_TAG, TAG_BYTES, at + inner);
	count_up(socket->sequence, 8);
	if (own)
		count_up(socket->iv + 4, 8);
	socket->kept_from = 0;
	socket->kept_to = HEAD_BYTES + length;
}

/* 0 when nothing is kept any more, or -1 and errno. */
static int push(int fd, struct tls_socket *socket, size_t spare)
{
	while (socket->kept_from + spare < socket->kept_to) {
		ssize_t sent = real_send(fd, socket->kept + socket->kept_from, socket->kept_to - spare - socket->kept_from);
		if (sent < 0)
			return -1;
		socket->kept_from += (size_t)sent;
	}
	if (spare == 0)
		return 0;
	errno = EAGAIN;
	return -1;
}

/* The kernel's worker leaves an error of the connection to whoever uses the socket next; to send into it would take the error away. */
static bool has_failed(int fd)
{
	struct pollfd look = { .fd = fd };
	return poll(&look, 1, 0) > 0 && (look.revents & POLLERR);
}

static void flush(int fd, struct tls_socket *socket)
{
	if (has_failed(fd))
		socket->kept_to = socket->kept_from;
	else if (socket->patience-- <= 0)
		(void)push(fd, socket, 0);
}

static void *flusher(void *arg)
{
	(void)arg;
	for (;;) {
		nanosleep(&(struct timespec){ .tv_nsec = FLUSH_NS }, NULL);
		pthread_mutex_lock(&lock);
		for (int fd = 0; fd < MOST_FDS; fd++)
			if (sockets[fd] && sockets[fd]->kept_from < sockets[fd]->kept_to && find(fd))
				flush(fd, sockets[fd]);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void want_flusher(void)
{
	pthread_t thread;
	if (flusher_of == getpid())
		return;
	flusher_of = getpid();
	if (pthread_create(&thread, NULL, flusher, NULL) == 0)
		pthread_detach(thread);
}

/* How much was taken, or -1 and errno: see above. */
static ssize_t send_records(int fd, struct tls_socket *socket, unsigned char type, const unsigned char *bytes, size_t count)
{
	size_t taken = 0;
	if (push(fd, socket, 0))
		return -1;
	while (taken < count) {
		size_t part = count - taken < RECORD_BYTES ? count - taken : RECORD_BYTES;
		make_record(socket, type, bytes + taken, part);
		taken += part;
		bool keeps = taken == count && kind("tail");
		socket->patience = keeps ? TAIL_FLUSHES : 0;
		if (push(fd, socket, keeps ? TAIL_BYTES : 0) == 0)
			continue;
		want_flusher();
		if (errno == EAGAIN || errno == EINTR)
			break;
		socket->kept_to = socket->kept_from;
		return -1;
	}
	return (ssize_t)taken;
}

/* --- what is asked of a socket ------------------------------------------------------------------------------------------------ */

static int fail(int error)
{
	errno = error;
	return -1;
}

static bool is_established(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof info;
	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 && info.tcpi_state == 1;
}

/* Is it one of the calls that are to fail? */
static bool fails(const char *word, int *calls, int probes)
{
	if (calls_of != getpid()) {
		calls_of = getpid();
		calls_ulp = calls_keys = calls_new_keys = 0;
	}
	return kind(word) && ++*calls > probes;
}

static int set_ulp(int fd)
{
	struct stat stat;
	if (fails("ulp", &calls_ulp, PROBES))
		return fail(kind("ulp"));
	if (find(fd))
		return fail(EEXIST);
	if (fd >= MOST_FDS || !is_established(fd) || fstat(fd, &stat))
		return fail(ENOTCONN);
	sockets[fd] = calloc(1, sizeof *sockets[fd]);
	if (!sockets[fd])
		return fail(ENOMEM);
	sockets[fd]->inode = stat.st_ino;
	return 0;
}

static const EVP_CIPHER *cipher_of(unsigned type, socklen_t *size)
{
	switch (type) {
	case TLS_CIPHER_AES_GCM_128:
		*size = sizeof(struct tls12_crypto_info_aes_gcm_128);
		return EVP_aes_128_gcm();
	case TLS_CIPHER_AES_GCM_256:
		*size = sizeof(struct tls12_crypto_info_aes_gcm_256);
		return EVP_aes_256_gcm();
	case TLS_CIPHER_CHACHA20_POLY1305:
		*size = sizeof(struct tls12_crypto_info_chacha20_poly1305);
		return EVP_chacha20_poly1305();
	default:
		return NULL;
	}
}

static void take_keys(struct tls_socket *socket, const EVP_CIPHER *cipher, const void *info, socklen_t size)
{
	const unsigned char *key;
	memcpy(&socket->info, info, size);
	socket->info_size = size;
	if (size == sizeof socket->info.aes_128) {
		key = socket->info.aes_128.key;
		memcpy(socket->iv, socket->info.aes_128.salt, 4);
		memcpy(socket->iv + 4, socket->info.aes_128.iv, 8);
	} else if (size == sizeof socket->info.aes_256 && socket->info.head.cipher_type == TLS_CIPHER_AES_GCM_256) {
		key = socket->info.aes_256.key;
		memcpy(socket->iv, socket->info.aes_256.salt, 4);
		memcpy(socket->iv + 4, socket->info.aes_256.iv, 8);
	} else {
		key = socket->info.chacha20.key;
		memcpy(socket->iv, socket->info.chacha20.iv, 12);
	}
	memcpy(socket->sequence, (const unsigned char *)info + size - 8, 8); /* the last in all of them */
	EVP_CIPHER_CTX_free(socket->cipher);
	socket->cipher = EVP_CIPHER_CTX_new();
	EVP_EncryptInit_ex(socket->cipher, cipher, NULL, key, NULL);
	socket->has_keys = true;
}

static int set_keys(struct tls_socket *socket, const struct tls_crypto_info *info, socklen_t size)
{
	socklen_t wanted = 0;
	const EVP_CIPHER *cipher = cipher_of(info->cipher_type, &wanted);
	if (!socket->has_keys && fails("keys", &calls_keys, PROBES))
		return fail(kind("keys"));
	if (socket->has_keys && fails("new_keys", &calls_new_keys, PROBES_WITH_NEW_KEYS))
		return fail(kind("new_keys"));
	if (info->version != TLS_1_2_VERSION && (info->version != TLS_1_3_VERSION || kind("only12")))
		return fail(EINVAL);
	if (!cipher || size != wanted)
		return fail(EINVAL);
	if (socket->has_keys) {
		if (!is_13(socket) || kind("old"))
			return fail(EBUSY);
		if (info->version != socket->info.head.version || info->cipher_type != socket->info.head.cipher_type)
			return fail(EINVAL);
	}
	take_keys(socket, cipher, info, size);
	return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	REAL("setsockopt", int (*)(int, int, int, const void *, socklen_t));
	int result;
	if (!kind("yes") || !((level == IPPROTO_TCP && name == TCP_ULP) || level == SOL_TLS))
		return real(fd, level, name, value, size);
	pthread_mutex_lock(&lock);
	if (level == IPPROTO_TCP)
		result = set_ulp(fd);
	else if (name == TLS_TX && find(fd) && size >= sizeof(struct tls_crypto_info))
		result = set_keys(find(fd), value, size);
	else
		result = fail(ENOPROTOOPT);
	int error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return result;
}

int getsockopt(int fd, int level, int name, void *restrict value, socklen_t *restrict size)
{
	REAL("getsockopt", int (*)(int, int, int, void *, socklen_t *));
	if (level != SOL_TLS)
		return real(fd, level, name, value, size);
	pthread_mutex_lock(&lock);
	const struct tls_socket *socket = find(fd);
	int error = !socket || !socket->has_keys ? EBUSY : name != TLS_TX || *size != socket->info_size ? EINVAL : 0;
	if (!error) {
		memcpy(value, &socket->info, socket->info_size);
		memcpy((char *)value + socket->info_size - 8, socket->sequence, 8);
	}
	pthread_mutex_unlock(&lock);
	return error ? fail(error) : 0;
}

/* --- what is sent ------------------------------------------------------------------------------------------------------------- */

/* False: it is a socket as all others. */
static bool sent_as_records(int fd, unsigned char type, const void *bytes, size_t count, ssize_t *result)
{
	pthread_mutex_lock(&lock);
	struct tls_socket *socket = find(fd);
	bool ours = socket && socket->has_keys;
	if (ours)
		*result = send_records(fd, socket, type, bytes, count);
	int error = errno;
	pthread_mutex_unlock(&lock);
	errno = error;
	return ours;
}

ssize_t send(int fd, const void *bytes, size_t count, int flags)
{
	REAL("send", ssize_t(*)(int, const void *, size_t, int));
	ssize_t result;
	return sent_as_records(fd, DATA, bytes, count, &result) ? result : real(fd, bytes, count, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	REAL("sendmsg", ssize_t(*)(int, const struct msghdr *, int));
	const struct cmsghdr *control = CMSG_FIRSTHDR(message);
	unsigned char type = DATA;
	ssize_t result;
	if (control && control->cmsg_level == SOL_TLS && control->cmsg_type == TLS_SET_RECORD_TYPE)
		memcpy(&type, CMSG_DATA(control), 1);
	if (message->msg_iovlen == 1 && sent_as_records(fd, type, message->msg_iov[0].iov_base, message->msg_iov[0].iov_len, &result))
		return result;
	return type == DATA ? real(fd, message, flags) : fail(EINVAL);
}

/* Whatever is kept is lost, and stands in the log of the program. */
static void lose(int fd, const char *how)
{
	struct tls_socket *socket = find(fd);
	if (socket && socket->kept_from < socket->kept_to) {
		fprintf(stderr, "kernel_tls: %zu bytes lost by %s()\n", socket->kept_to - socket->kept_from, how);
		socket->kept_to = socket->kept_from;
	}
}

int shutdown(int fd, int how)
{
	REAL("shutdown", int (*)(int, int));
	pthread_mutex_lock(&lock);
	if (how != SHUT_RD)
		lose(fd, "shutdown");
	pthread_mutex_unlock(&lock);
	return real(fd, how);
}

int close(int fd)
{
	REAL("close", int (*)(int));
	pthread_mutex_lock(&lock);
	if (find(fd)) {
		lose(fd, "close");
		forget(fd);
	}
	pthread_mutex_unlock(&lock);
	return real(fd);
}

/* --- what there is ------------------------------------------------------------------------------------------------------------ */

static FILE *list(const char *path)
{
	static char text[] = "mptcp tls\n";
	return kind("yes") && strcmp(path, "/proc/sys/net/ipv4/tcp_available_ulp") == 0 ? fmemopen(text, sizeof text - 1, "r") : NULL;
}

FILE *fopen(const char *restrict path, const char *restrict mode)
{
	REAL("fopen", FILE * (*)(const char *, const char *));
	FILE *file = list(path);
	return file ? file : real(path, mode);
}

#if UINTPTR_MAX == UINT64_MAX /* else the two differ */
FILE *fopen64(const char *restrict path, const char *restrict mode)
{
	return fopen(path, mode);
}
#endif
