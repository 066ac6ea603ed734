/* SPDX-License-Identifier: BSD-3-Clause
 * The life of one artifact: the only place that changes a model_version's state.
 *
 *   EMPTY -load-> LOADING -verified-> VERIFIED -staged-> STAGED -activated-> LIVE -replaced-> RETIRED
 *   RETIRED -activated-> LIVE (rollback);  STAGED, LIVE -lost-> VERIFIED (the dataplane died)
 *   VERIFIED -activated-> LIVE, -replaced-> RETIRED (a new dataplane took it straight into its slot)
 *   LOADING, VERIFIED, STAGED -failed-> FAILED;  everything -dropped-> EMPTY
 */
#include <string.h>

#include "base/log.h"
#include "control/models_private.h"

static const char *const state_names[] = {"empty", "loading", "verified", "staged", "live", "retired",
	"failed"};
static const char *const event_names[] = {"load", "verified", "staged", "activated", "replaced",
	"lost", "failed", "dropped"};

enum { STATES = MODEL_FAILED + 1, IGNORED = -1 };

/* next[state][event]. An ignored event leaves the state and is logged at debug level. */
static const signed char next[STATES][MODEL_EVENTS] = {
	/*                 load           verified        staged        activated   replaced       lost            failed        dropped */
	[MODEL_EMPTY] =    {MODEL_LOADING, IGNORED,        IGNORED,      IGNORED,    IGNORED,       IGNORED,        IGNORED,      MODEL_EMPTY},
	[MODEL_LOADING] =  {IGNORED,       MODEL_VERIFIED, IGNORED,      IGNORED,    IGNORED,       IGNORED,        MODEL_FAILED, MODEL_EMPTY},
	[MODEL_VERIFIED] = {IGNORED,       IGNORED,        MODEL_STAGED, MODEL_LIVE, MODEL_RETIRED, IGNORED,        MODEL_FAILED, MODEL_EMPTY},
	[MODEL_STAGED] =   {IGNORED,       IGNORED,        IGNORED,      MODEL_LIVE, MODEL_RETIRED, MODEL_VERIFIED, MODEL_FAILED, MODEL_EMPTY},
	[MODEL_LIVE] =     {IGNORED,       IGNORED,        IGNORED,      IGNORED,    MODEL_RETIRED, MODEL_VERIFIED, MODEL_FAILED, MODEL_EMPTY},
	[MODEL_RETIRED] =  {IGNORED,       IGNORED,        IGNORED,      MODEL_LIVE, IGNORED,       IGNORED,        MODEL_FAILED, MODEL_EMPTY},
	[MODEL_FAILED] =   {MODEL_LOADING, IGNORED,        IGNORED,      IGNORED,    IGNORED,       IGNORED,        IGNORED,      MODEL_EMPTY},
};

const char *model_state_name(enum model_state s)
{
	return (unsigned)s < STATES ? state_names[s] : "?";
}

bool model_transition(struct model_version *v, enum model_event e, const char *name)
{
	int to = next[v->state][e];

	if (to == IGNORED) {
		log_debug("model %s %llu: %s ignored while %s", name, (unsigned long long)v->number,
			event_names[e], state_names[v->state]);
		return false;
	}
	if (to != (int)v->state)
		log_info("model %s version %u (artifact %llu): %s -> %s, %s", name, v->version,
			(unsigned long long)v->number, state_names[v->state], state_names[to],
			event_names[e]);
	v->state = (enum model_state)to;
	return true;
}
