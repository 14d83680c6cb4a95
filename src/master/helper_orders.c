/* Orders of clients of the control process, which the master carries out, and their answers. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "master/certificates.h"
#include "master/helper_own.h"
#include "master/orders.h"

/* A text of any length is sent as a file without a name. -1 when there is no memory for it. */
static int text_fd(const char *text)
{
	size_t length = strlen(text), done = 0;
	int fd = memfd_create("answer", MFD_CLOEXEC);
	while (fd >= 0 && done < length) {
		ssize_t n = write(fd, text + done, length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			close(fd);
			return -1;
		}
		done += (size_t)n;
	}
	return fd;
}

static void answer(struct helper_process *process, uint32_t number, int error, const char *text)
{
	int fd = text_fd(text);
	helper_tell_more(process, &(struct channel_message){ .kind = CONTROL_ANSWER, .value = number, .value_ns = (uint64_t)-error }, fd);
	if (fd >= 0)
		close(fd);
}

void helper_answer(struct helper *helper, const struct asker *asker, int error, const char *text)
{
	if (!asker->pid)
		return;
	if (helper->running.pid == asker->pid)
		answer(&helper->running, asker->number, error, text);
	for (size_t i = 0; i < HELPER_RETIRED_MOST; i++)
		if (helper->retired[i].pid == asker->pid)
			answer(&helper->retired[i], asker->number, error, text);
}

bool helper_is_order(enum control_message kind)
{
	return kind == CONTROL_ASK_RELOAD || kind == CONTROL_ASK_DRAIN || kind == CONTROL_ASK_UNDRAIN || kind == CONTROL_ASK_CERTIFICATES;
}

void helper_take_order(struct master *master, const struct asker *asker, uint32_t kind, uint64_t value_ns)
{
	if (kind == CONTROL_ASK_RELOAD)
		order_reload_for(master, asker);
	else if (kind == CONTROL_ASK_DRAIN)
		order_drain_for(master, asker, value_ns);
	else if (kind == CONTROL_ASK_CERTIFICATES)
		certificates_reload(master, asker);
	else
		order_undrain_for(master, asker);
}

void helper_defer_order(struct helper_process *process, const struct channel_message *message)
{
	struct helper *helper = helper_of(process);
	if (helper->n_deferred == HELPER_DEFERRED_MOST) {
		answer(process, message->value, -EAGAIN, "");
		return;
	}
	size_t i = helper->n_deferred++;
	helper->deferred[i].asker = (struct asker){ .pid = process->pid, .number = message->value };
	helper->deferred[i].kind = message->kind;
	helper->deferred[i].value_ns = message->value_ns;
	loop_timer_start(process->master->loop, &helper->take_deferred, 0);
}

/* In the order in which they came. */
void helper_on_take_deferred(struct loop_timer *timer)
{
	struct helper *helper = container_of(timer, struct helper, take_deferred);
	struct deferred_order orders[HELPER_DEFERRED_MOST];
	size_t n = helper->n_deferred;
	memcpy(orders, helper->deferred, sizeof orders);
	helper->n_deferred = 0; /* one of them may have hands change once more */
	for (size_t i = 0; i < n; i++)
		helper_take_order(helper->running.master, &orders[i].asker, orders[i].kind, orders[i].value_ns);
}
