/* SPDX-License-Identifier: BSD-3-Clause
 * Sleep for idle workers: see doze.h.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "doze.h"

int doze_init(struct doze *d, int queue_fd, bool alone)
{
	d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	d->queue_fd = queue_fd;
	d->most_ns = (queue_fd < 0 || !alone ? DOZE_NAP_US : DOZE_SLEEP_US) * (long)NS_PER_US;
	d->on = d->wake_fd >= 0;
	return d->on ? 0 : -errno;
}

void doze_uninit(struct doze *d)
{
	if (d->on)
		fd_close(d->wake_fd);
	memset(d, 0, sizeof(*d));
}

uint64_t doze_sleep(struct doze *d)
{
	struct pollfd fds[] = {{.fd = d->wake_fd, .events = POLLIN}, {.fd = d->queue_fd, .events = POLLIN}};
	struct timespec most = {.tv_nsec = d->most_ns};
	uint64_t rings, now_ns, pinged_ns;

	__atomic_store_n(&d->asleep, 1, __ATOMIC_SEQ_CST);
	ppoll(fds, d->queue_fd < 0 ? 1 : 2, &most, NULL);
	now_ns = clock_now_ns();
	__atomic_store_n(&d->asleep, 0, __ATOMIC_SEQ_CST);
	if (!(fds[0].revents & POLLIN) || read(d->wake_fd, &rings, sizeof(rings)) != sizeof(rings))
		return 0;
	pinged_ns = __atomic_exchange_n(&d->pinged_ns, 0, __ATOMIC_ACQ_REL);
	return pinged_ns && now_ns > pinged_ns ? now_ns - pinged_ns : 0;
}

void doze_ring(struct doze *d, bool measure)
{
	const uint64_t one = 1;

	if (!d->on || !__atomic_load_n(&d->asleep, __ATOMIC_SEQ_CST))
		return;
	if (measure)
		__atomic_store_n(&d->pinged_ns, clock_now_ns(), __ATOMIC_RELEASE);
	if (write(d->wake_fd, &one, sizeof(one)) < 0)
		__atomic_store_n(&d->pinged_ns, 0, __ATOMIC_RELEASE);
}
