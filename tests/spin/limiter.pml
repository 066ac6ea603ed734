/* SPDX-License-Identifier: BSD-3-Clause
 * The limiter's compare-and-swap loop: WORKERS workers charge one slot while control changes its plan.
 *
 * Stands for limits_take() and limits_charge() of dataplane/abi/limits.h and limits_set() of
 * ebpf/limit_table.c. Time is a few ticks; plan `slow` has three times the interval of `fast`.
 *
 * Proven: no charge and no move is lost (the TAT always is what applying every successful step, one
 * after the other, gives); units admitted <= burst + rate x t, also over one change of plan, in either
 * direction and however long control pauses between two of its stores; a TAT that nobody tampered with is
 * never called corrupt, and one that was is reset (-DTAMPER).
 *
 * Spin's memory is sequentially consistent. That is enough here: every access of the real code to a
 * slot is an acquire load, a release store or a locked instruction, and no side stores one word and
 * then decides on another word it loaded (control's odd generation is a locked exchange).
 */
#ifdef TAMPER
#define STEADY
#endif
#ifdef STEADY /* nobody changes the plan: more workers, more time */
#ifdef TAMPER
#define WORKERS 2
#else
#define WORKERS 3
#endif
#define SPAN 2 /* ticks of time that pass */
#else
#define WORKERS 2
#define SPAN 1
#endif
#define CHARGES 2 /* by each worker */
#define TRIES 2 /* LIMITS_CAS_TRIES */
#define BASE 20 /* now at the start */
#define SKEW 1  /* LIMITS_SKEW_TICKS: how old a worker's `now` may be */

/* Plans: ticks a unit; both hold UNITS units of burst. */
#define FAST 2
#define SLOW 6
#define UNITS 2
#define ROUNDING 2 /* scale_ahead() rounds down to a tick: less than half a unit here, 1/16 ns in truth */
#define BURST(interval) ((interval) * UNITS)

/* struct limit_slot */
short tat = BASE;
byte interval, burst, generation;

/* the world, and what must be true of it */
byte now = BASE;
byte seen[3] = 255; /* a worker's `now`; 255 = it is between two bursts */
short proper = BASE;      /* the TAT after all successful steps one by one */
byte admitted;            /* units, in sixths */
byte earned;              /* rate x t, in the same */
bool changing, tampered;
byte finished;

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define MIN(a, b) ((a) < (b) -> (a) : (b))

/* What a tick earns. A new plan counts from control's reading of the clock on, so until the change is made
 * it is the faster of the two that counts. */
#define PER_TICK ((interval == FAST || changing) -> 3 : 1)

inline admit()
{
	proper = MAX(proper, at) + cost;
	if
	:: corrupt -> proper = at + cost
	:: else
	fi;
	tat = next;
	assert(tat == proper);
	admitted = admitted + SLOW;
	assert(admitted <= UNITS * SLOW + earned + ROUNDING || tampered);
	assert(!corrupt || tampered)
}

proctype worker(byte me)
{
	byte n, tries, my_generation, cost, most, at;
	short was, next;
	bool corrupt;

burst_begins: /* worker.c: the clock, once a burst */
	atomic {
		if :: n == CHARGES -> goto gone :: else fi;
		n++;
		at = now;
		seen[me] = at
	}
	/* limits_charge(): generation before the limits, then burst, then interval */
#ifdef BROKEN_OPEN
	my_generation = generation;
#else
	atomic { my_generation = generation; if :: my_generation & 1 -> goto done :: else fi };
#endif
	most = burst;
	atomic { cost = interval; if :: cost > most -> goto done :: else fi } /* never */
	do
	:: atomic { /* limits_take(): tat = limits_load(word), limits_corrupt() */
		if :: tries == TRIES -> goto done :: else fi; /* LIMIT_CONTENDED */
		tries++;
		was = tat;
		corrupt = was > at + most + cost + SKEW
	   }
	   atomic { /* limits_load(&slot->generation), then limits_gcra() */
#ifndef BROKEN_GENERATION
		if :: generation != my_generation || (corrupt && (my_generation & 1)) -> goto done
		   :: else fi;
#endif
		if
		:: corrupt -> next = at + cost
		:: !corrupt && MAX(was, at) - at + cost > most -> goto done /* LIMIT_REFUSED */
		:: !corrupt && MAX(was, at) - at + cost <= most -> next = MAX(was, at) + cost
		fi
	   }
	   atomic { /* __sync_val_compare_and_swap(word, tat, next) */
		if
#ifdef BROKEN_CAS
		:: true -> admit(); goto done
#else
		:: tat == was -> admit(); goto done
		:: tat != was
#endif
		fi
	   }
	od;
done:
	atomic {
		seen[me] = 255;
		tries = 0; my_generation = 0; cost = 0; most = 0; at = 0; was = 0; next = 0; corrupt = false
	}
	goto burst_begins;
gone:
	finished++
}

/* scale_ahead(): units ahead stay units ahead, within the new burst */
#define MOVED(t, at, from, to) ((t) > (at) -> (at) + MIN(((t) - (at)) * (to) / (from), BURST(to)) : (t))

proctype control()
{
	byte from, to, at;
	short was;

	d_step { at = now; from = interval; to = FAST + SLOW - interval; changing = true };
	generation = generation | 1; /* limits_set(): odd */
	interval = to;
	burst = BURST(to);
	do /* move_tat() */
	:: was = tat;
		atomic {
			if
#ifdef BROKEN_MOVE
			:: true ->
#else
			:: tat == was ->
#endif
				proper = MOVED(proper, at, from, to);
				tat = MOVED(was, at, from, to);
#ifndef BROKEN_SAME
				/* never the same value: a charge under the old limits must fail */
				if :: tat == was -> tat++; proper++ :: else fi;
#endif
				assert(tat == proper);
				break
			:: else
			fi
		}
	od;
	atomic { generation++; changing = false };
	finished++
}

proctype clock()
{
	do
	:: now == BASE + SPAN -> break
	:: atomic {
		now < BASE + SPAN && MIN(seen[0], MIN(seen[1], seen[2])) + SKEW > now ->
		now++;
		earned = earned + PER_TICK
	}
	od
}

#ifdef TAMPER
/* Another program with access to the map writes garbage, once. */
proctype tamper()
{
	atomic { tat = 200; proper = 200; tampered = true }
}
#endif

init {
	atomic {
		if
		:: interval = FAST
		:: interval = SLOW
		fi;
		burst = BURST(interval);
		run worker(0);
		run worker(1);
#if WORKERS > 2
		run worker(2);
#endif
#ifndef STEADY
		run control();
#endif
		run clock();
#ifdef TAMPER
		run tamper();
#endif
	}
#ifdef STEADY
	finished == WORKERS;
#else
	finished == WORKERS + 1;
	assert(generation == 2);
#endif
	/* Whatever has happened, the slot ends usable. */
	assert(tampered || tat <= now + burst + SKEW)
}
