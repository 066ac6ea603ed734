/* SPDX-License-Identifier: BSD-3-Clause
 * What each subscriber has used: the limiter slot's counter turned into a total that only grows and is
 * in the database at most five seconds late.
 *
 * The counter lives in the pinned map: it survives both processes but not a reboot. A value below the
 * one seen last therefore means a new map, which counted from 0: then all of it is new.
 */
#include <errno.h>
#include <sqlite3.h>
#include <string.h>

#include "base/log.h"
#include "control/limits_table.h"
#include "control/store.h"
#include "control/subscribers_private.h"

void usage_read(struct control *ctl, uint32_t index)
{
	struct member *m = &ctl->subscribers->all[index];
	struct limit_slot *slot = limits_table_slot(ctl, index);
	uint64_t seen;

	if (!slot)
		return;
	seen = __atomic_load_n(&slot->units_admitted, __ATOMIC_RELAXED);
	m->units += seen >= m->last_seen ? seen - m->last_seen : seen;
	m->last_seen = seen;
}

void usage_store(struct control *ctl)
{
	static struct log_limiter failed;
	struct subscribers *s = ctl->subscribers;
	struct error err = {0};
	int rc = 0;

	for (uint32_t i = 0; i < s->slots; i++)
		if (s->all[i].name[0])
			usage_read(ctl, i);
	rc = store_begin(ctl->store, &err);
	for (uint32_t i = 0; !rc && i < s->slots; i++) {
		struct member *m = &s->all[i];

		if (m->name[0] && m->units != m->stored)
			rc = store_run(ctl->store, &err, "UPDATE subscriber SET units = ?1, "
				"last_seen = ?2, month = ?3, month_base = ?4 WHERE slot = ?5", "iiiii",
				(int64_t)m->units, (int64_t)m->last_seen, (int64_t)m->month,
				(int64_t)m->month_base, (int64_t)i);
	}
	rc = store_end(ctl->store, rc, &err); /* after a refused BEGIN its ROLLBACK does nothing */
	if (rc)
		log_ratelimited(&failed, LOG_LEVEL_ERROR, "usage not stored: %s", err.text);
	for (uint32_t i = 0; !rc && i < s->slots; i++)
		s->all[i].stored = s->all[i].units;
}
