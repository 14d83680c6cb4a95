#include "tls/kernel.h"

#include <assert.h>
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/machine.h"

#ifndef TCP_ULP
#define TCP_ULP 31
#endif
#ifndef SOL_TLS
#define SOL_TLS 282
#endif

/* --- keys as the kernel wants them -------------------------------------------------------------------------------------------- */

union crypto_info {
	struct tls_crypto_info head;
	struct tls12_crypto_info_aes_gcm_128 aes_128;
	struct tls12_crypto_info_aes_gcm_256 aes_256;
	struct tls12_crypto_info_chacha20_poly1305 chacha20;
};

static const struct {
	uint16_t type;
	socklen_t size;
} ciphers[] = {
	[KERNEL_AES_128_GCM] = { TLS_CIPHER_AES_GCM_128, sizeof(struct tls12_crypto_info_aes_gcm_128) },
	[KERNEL_AES_256_GCM] = { TLS_CIPHER_AES_GCM_256, sizeof(struct tls12_crypto_info_aes_gcm_256) },
	[KERNEL_CHACHA20_POLY1305] = { TLS_CIPHER_CHACHA20_POLY1305, sizeof(struct tls12_crypto_info_chacha20_poly1305) },
};
static_assert(ARRAY_LEN(ciphers) == N_KERNEL_CIPHERS, "one row for each");

static void to_wire(uint64_t number, unsigned char *out)
{
	for (int i = 7; i >= 0; i--, number >>= 8)
		out[i] = (unsigned char)number;
}

static uint64_t from_wire(const unsigned char *bytes)
{
	uint64_t number = 0;
	for (int i = 0; i < 8; i++)
		number = number << 8 | bytes[i];
	return number;
}

/* Where the number of the next record stands: it is the last in all of them. */
static unsigned char *sequence_in(union crypto_info *info, enum kernel_cipher cipher)
{
	return (unsigned char *)info + ciphers[cipher].size - TLS_CIPHER_AES_GCM_128_REC_SEQ_SIZE;
}

static void fill(union crypto_info *info, const struct kernel_keys *keys)
{
	memset(info, 0, sizeof *info);
	info->head.version = keys->is_tls13 ? TLS_1_3_VERSION : TLS_1_2_VERSION;
	info->head.cipher_type = ciphers[keys->cipher].type;
	switch (keys->cipher) {
	case KERNEL_AES_128_GCM:
		memcpy(info->aes_128.salt, keys->iv, sizeof info->aes_128.salt);
		memcpy(info->aes_128.iv, keys->iv + sizeof info->aes_128.salt, sizeof info->aes_128.iv);
		memcpy(info->aes_128.key, keys->key, sizeof info->aes_128.key);
		break;
	case KERNEL_AES_256_GCM:
		memcpy(info->aes_256.salt, keys->iv, sizeof info->aes_256.salt);
		memcpy(info->aes_256.iv, keys->iv + sizeof info->aes_256.salt, sizeof info->aes_256.iv);
		memcpy(info->aes_256.key, keys->key, sizeof info->aes_256.key);
		break;
	default:
		memcpy(info->chacha20.iv, keys->iv, sizeof info->chacha20.iv);
		memcpy(info->chacha20.key, keys->key, sizeof info->chacha20.key);
	}
	to_wire(keys->sequence, sequence_in(info, keys->cipher));
}

size_t kernel_record_extra(const struct kernel_keys *keys)
{
	enum { HEAD = 5, TAG = 16, TYPE = 1, NONCE = 8 };
	if (keys->is_tls13)
		return HEAD + TYPE + TAG;
	return keys->cipher == KERNEL_CHACHA20_POLY1305 ? HEAD + TAG : HEAD + NONCE + TAG;
}

int kernel_change_keys(int fd, const struct kernel_keys *keys)
{
	union crypto_info info;
	fill(&info, keys);
	int error = setsockopt(fd, SOL_TLS, TLS_TX, &info, ciphers[keys->cipher].size) ? -errno : 0;
	explicit_bzero(&info, sizeof info);
	return error;
}

int kernel_take_over(int fd, const struct kernel_keys *keys)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls"))
		return -errno;
	return kernel_change_keys(fd, keys);
}

int kernel_sequence(int fd, const struct kernel_keys *keys, uint64_t *out)
{
	union crypto_info info;
	socklen_t size = ciphers[keys->cipher].size;
	int error = getsockopt(fd, SOL_TLS, TLS_TX, &info, &size) ? -errno : 0;
	if (!error)
		*out = from_wire(sequence_in(&info, keys->cipher));
	explicit_bzero(&info, sizeof info);
	return error;
}

/* --- a socket with TLS -------------------------------------------------------------------------------------------------------- */

int kernel_send_control(int fd, unsigned char type, const void *bytes, size_t count)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof type)];
	} control = { .head = { .cmsg_level = SOL_TLS, .cmsg_type = TLS_SET_RECORD_TYPE, .cmsg_len = CMSG_LEN(sizeof type) } };
	struct iovec part = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = count };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	memcpy(CMSG_DATA(&control.head), &type, sizeof type);
	ssize_t sent = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	return (size_t)sent == count ? 0 : -EPROTO;
}

int kernel_sent_bytes(int fd, uint64_t *all, uint64_t *unacknowledged)
{
	enum { TRIES = 16, STATE_CLOSED = 7 };
	struct tcp_info before, after = { 0 };
	int queued;
	for (int i = 0; i <= TRIES; i++) {
		socklen_t size = sizeof after;
		before = after;
		if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &after, &size))
			return -errno;
		if (after.tcpi_state == STATE_CLOSED)
			return -ECONNRESET;
		/* Between the two an acknowledgement may come. */
		if (i > 0 && after.tcpi_bytes_acked == before.tcpi_bytes_acked) {
			*all = (uint64_t)after.tcpi_bytes_acked + (unsigned)queued;
			*unacknowledged = (unsigned)queued;
			return 0;
		}
		if (ioctl(fd, SIOCOUTQ, &queued))
			return -errno;
	}
	return -EAGAIN;
}

/* --- what it can do ----------------------------------------------------------------------------------------------------------- */

static int listen_at_loopback(struct sockaddr_in *at)
{
	socklen_t size = sizeof *at;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)at, sizeof *at) == 0 && listen(fd, 2 * N_KERNEL_CIPHERS) == 0 &&
	        getsockname(fd, (struct sockaddr *)at, &size) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Does a new connection take keys of the kind, and others after them? */
static bool takes(const struct sockaddr_in *to, const struct kernel_keys *keys)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool taken = fd >= 0 && connect(fd, (const struct sockaddr *)to, sizeof *to) == 0 && kernel_take_over(fd, keys) == 0;
	if (taken && keys->is_tls13)
		taken = kernel_change_keys(fd, keys) == 0;
	if (fd >= 0)
		close(fd);
	return taken;
}

struct kernel_ability kernel_probe(const char *root)
{
	struct kernel_ability ability = { 0 };
	struct sockaddr_in at;
	int fd = machine_lacks_kernel_tls(root) ? -1 : listen_at_loopback(&at);
	if (fd < 0)
		return ability;
	for (enum kernel_cipher cipher = 0; cipher < N_KERNEL_CIPHERS; cipher++) {
		struct kernel_keys keys = { .cipher = cipher };
		ability.tls12 |= (uint8_t)(takes(&at, &keys) << cipher);
		keys.is_tls13 = true;
		ability.tls13 |= (uint8_t)(takes(&at, &keys) << cipher);
	}
	close(fd);
	return ability;
}

const char *kernel_ability_text(const struct kernel_ability *ability, char *text, size_t size)
{
	if (ability->tls12 && ability->tls13)
		(void)snprintf(text, size, "yes: TLS 1.2 and 1.3");
	else if (ability->tls12)
		(void)snprintf(text, size, "yes: TLS 1.2 alone; for TLS 1.3 the kernel would have to take new keys, too (Linux 6.14 does)");
	else if (ability->tls13)
		(void)snprintf(text, size, "yes: TLS 1.3 alone");
	else
		(void)snprintf(text, size, "no: the kernel has no TLS for sockets, or its module (tls) is not loaded");
	return text;
}
