/* SPDX-License-Identifier: BSD-3-Clause
 * Model slots under polling workers: every order of stage, activate, rollback and unload.
 *
 * Stands for change(), retire() and model_table_reap() of dataplane/model_slot.c, for
 * dataplane/quiesce.h, and for worker_poll() of dataplane/worker.c, which loads the published set once or
 * twice (gateway_turn) between two ticks.
 *
 * Proven: a worker never looks at a set or a model that was freed; nothing is freed twice; at the end
 * everything that is in no slot has been freed.
 *
 * A worker's tick is a sequentially consistent store; -DBROKEN_RELAXED gives it a store buffer, as plain
 * stores have on x86, in which the tick may wait while the loads behind it run.
 */
#define WORKERS 2
#define POLLS(worker) (2 - (worker)) /* of each worker */
#define CHANGES 3   /* stage, activate, rollback or unload; model 1 is live, model 2 staged before */
#define MODELS 3    /* artifacts that may be staged */
#define RETIRED 5   /* MODEL_RETIRED */
#define ROOM 4      /* a change retires at most one set and three models */

/* Objects: sets 1..CHANGES+1 (each names one current model, 0 = none), models 1..MODELS. */
byte published = 1;
byte model_of[5];
bool set_freed[5], model_freed[4];
byte sets = 1, models = 2;

byte ticks[WORKERS];
byte next = 2, current = 1, previous;        /* struct model_entry */
byte old_set[RETIRED], old_model[RETIRED]; /* struct model_retired */
byte since[10];                      /* RETIRED x WORKERS: struct quiesce_snapshot */
byte gone;                           /* workers that have left */

#define IN_A_SLOT(m) ((m) == next || (m) == current || (m) == previous)

proctype worker(byte me)
{
	byte n, s, m, turns;
#ifdef BROKEN_RELAXED
	byte buffered;
#endif

	do
	:: n == POLLS(me) -> break
	:: n < POLLS(me) ->
		n++;
#ifdef BROKEN_RELAXED
		if
		:: ticks[me]++
		:: buffered = 1 /* on its way; memory sees it later */
		fi;
#else
		ticks[me]++; /* quiesce_tick() */
#endif
		turns = 0;
		do
		:: turns == 2 -> break
		:: turns < 2 ->
			turns++;
			s = published; /* load_shared() */
			atomic { assert(!set_freed[s]); m = model_of[s]; s = 0 } /* model_set_find() */
			atomic { assert(!model_freed[m]); m = 0 } /* a run takes its time */
		:: turns < 2 -> break /* nothing arrived, nobody rang */
		od;
		atomic {
			turns = 0;
#ifdef BROKEN_RELAXED
			ticks[me] = ticks[me] + buffered; buffered = 0
#endif
		}
	od;
	ticks[me] = 0; /* quiesce_leave() */
	gone++
}

inline mark(slot) /* quiesce_mark() */
{
	since[slot * WORKERS] = ticks[0];
	since[slot * WORKERS + 1] = ticks[1]
}

inline retire(s, m)
{
	atomic {
		i = 0;
		do
		:: i < RETIRED && (old_set[i] || old_model[i]) -> i++
		:: else -> break
		od;
		assert(i < RETIRED); /* there is room: checked before */
		old_set[i] = s;
		old_model[i] = m
	}
#ifndef BROKEN_MARK
	mark(i)
#endif
}

/* One entry of model_table_reap(). */
inline reap_one(k)
{
#ifndef BROKEN_WAIT
	/* quiesce_passed() */
	if :: since[k * WORKERS] && since[k * WORKERS] == ticks[0] -> goto kept :: else fi;
	if :: since[k * WORKERS + 1] && since[k * WORKERS + 1] == ticks[1] -> goto kept :: else fi;
#endif
	atomic {
		assert(!old_set[k] || !set_freed[old_set[k]]);
		assert(!old_model[k] || !model_freed[old_model[k]]);
		if :: old_set[k] -> set_freed[old_set[k]] = true :: else fi;
		if :: old_model[k] -> model_freed[old_model[k]] = true :: else fi;
		old_set[k] = 0; old_model[k] = 0;
		since[k * WORKERS] = 0; since[k * WORKERS + 1] = 0
	}
}

inline leaves(m) /* a model of the old entry */
{
	if
#ifdef BROKEN_SLOT
	:: m ->
#else
	:: m && !IN_A_SLOT(m) ->
#endif
		retire(0, m)
	:: else
	fi
}

proctype service()
{
	byte done, i, j, free, was_next, was_current, was_previous, was_set;

turn:
	do
	:: atomic { j < RETIRED && old_set[j] == 0 && old_model[j] == 0 -> j++ }
	:: j < RETIRED && (old_set[j] || old_model[j]) -> reap_one(j);
kept:
		j++
	:: j == RETIRED -> j = 0; break
	od;
	atomic {
		free = 0;
		i = 0;
		do
		:: i < RETIRED -> free = free + (old_set[i] == 0 && old_model[i] == 0 -> 1 : 0); i++
		:: i == RETIRED -> i = 0; break
		od
	}
	if
	:: done == CHANGES -> goto end_of_changes
	:: done < CHANGES && free < ROOM -> free = 0; goto turn /* -EBUSY */
	:: done < CHANGES && free >= ROOM -> free = 0
	fi;
	atomic {
		done++;
		was_next = next; was_current = current; was_previous = previous; was_set = published;
		if
		:: models < MODELS -> models++; next = models                             /* stage */
		:: next -> previous = current; current = next; next = 0                    /* activate */
		:: previous -> current = previous; previous = 0                            /* rollback */
		:: next || current || previous -> next = 0; current = 0; previous = 0      /* unload */
		:: else -> skip
		fi
	}
	if
	:: was_current != current ->
		atomic { sets++; model_of[sets] = current } /* set_new() */
#ifdef BROKEN_MARK
		i = 0;
		mark(0); mark(1); mark(2); mark(3); mark(4);
#endif
		published = sets; /* sequentially consistent */
		retire(was_set, 0)
	:: else
	fi;
	leaves(was_next);
	leaves(was_current);
	leaves(was_previous);
	atomic { was_next = 0; was_current = 0; was_previous = 0; was_set = 0 }
	goto turn;
end_of_changes:
	gone == WORKERS;
	atomic {
		j = 0;
		do
		:: j < RETIRED ->
			assert(!(since[j * WORKERS] && since[j * WORKERS] == ticks[0]));
			if :: old_set[j] -> set_freed[old_set[j]] = true :: else fi;
			if :: old_model[j] -> model_freed[old_model[j]] = true :: else fi;
			j++
		:: j == RETIRED -> break
		od;
		j = 1;
		do
		:: j <= models -> assert(model_freed[j] || IN_A_SLOT(j)); assert(!(model_freed[j] && IN_A_SLOT(j))); j++
		:: j > models -> break
		od
	}
}

init {
	atomic { model_of[1] = 1; run worker(0); run worker(1); run service() }
}
