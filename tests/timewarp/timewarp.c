/* Simulated time for a program under test: a library to preload.
 *
 * Time passes as always while the program works. While it sleeps, time jumps ahead to the next moment for which it has
 * set a timer, as far as the test allows. So a week of waiting takes seconds, and what the program sees does not depend on
 * how fast the machine is: work takes the time that it takes, and only sleep is cut short.
 *
 * It stands between the program and the C library, at the few calls through which a Rust program with a tokio runtime
 * learns of time: clock_gettime, epoll_wait, and the futex system call (time-outs of waiting threads). It knows how many
 * threads are at work (pthread_create, futex), for time may only jump when none is, and whether there is a connection to
 * a peer (connect, close), which is given some real time to answer.
 *
 * It also stands in for the name service (getaddrinfo), which can be told to fail or to be silent, and for the kernel's
 * boot_id, so that a test can play a reboot.
 *
 * The test steers it through the folder that SMTPRELAY_TIMEWARP names: `control` is the structure below, in shared memory;
 * a byte in the pipe `order` says that it was changed; a byte in the pipe `done` says that the horizon was
 * reached. A line on standard error says so as well, behind all that the program had to say until then: its log comes to
 * the test behind what it does.
 * tests/support/timewarp.rs is the other side.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* All times in nanoseconds. Each member has eight bytes; timewarp.rs knows the order. */
static struct control {
	_Atomic int64_t wall;    /* added to CLOCK_REALTIME, beside `skipped` */
	_Atomic int64_t mono;    /* added to CLOCK_MONOTONIC and CLOCK_BOOTTIME, beside `skipped` */
	_Atomic int64_t skipped; /* the sum of all jumps */
	_Atomic int64_t horizon; /* monotonic time up to which jumps may go; 0: no jumps */
	_Atomic int64_t quiet;   /* real time without an event before a jump, while connected to a peer */
	_Atomic int64_t owner;   /* the process whose sleep makes time jump */
	_Atomic int64_t names;   /* the name service: 0 works, 1 fails at once, 2 is silent */
	_Atomic int64_t lookups; /* number of names asked for */
	_Atomic int64_t loaded;  /* 1: a program has this library */
	_Atomic int64_t jumps;   /* number of jumps */
	_Atomic int64_t reached; /* the last horizon at which the program slept with nothing left to do */
} nowhere, *control = &nowhere;

#define FOREVER INT64_MAX
/* How long a silent name service keeps a caller: what resolvers do with two servers and their usual settings. */
#define SILENCE (20 * 1000000000LL)

static int order = -1, done = -1;
static _Atomic int threads; /* those alive, without the first one */
static _Atomic int waiting; /* those of them that sleep */

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_epoll_wait)(int, struct epoll_event *, int, int);
static long (*real_syscall)(long, ...);
static int (*real_pthread_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int (*real_connect)(int, const struct sockaddr *, socklen_t);
static int (*real_close)(int);
static int (*real_getaddrinfo)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static void *next(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);
	if (!function) {
		fprintf(stderr, "timewarp: no %s\n", name);
		abort();
	}
	return function;
}

static int open_in(const char *folder, const char *name, int flags)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	int file = open(path, flags | O_CLOEXEC);
	if (file < 0) {
		perror(path);
		abort();
	}
	return file;
}

__attribute__((constructor)) static void begin(void)
{
	real_clock_gettime = (int (*)(clockid_t, struct timespec *))next("clock_gettime");
	real_epoll_wait = (int (*)(int, struct epoll_event *, int, int))next("epoll_wait");
	real_syscall = (long (*)(long, ...))next("syscall");
	real_pthread_create = (int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *))next("pthread_create");
	real_getaddrinfo = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))next("getaddrinfo");
	real_connect = (int (*)(int, const struct sockaddr *, socklen_t))next("connect");
	real_close = (int (*)(int))next("close");
	const char *folder = getenv("SMTPRELAY_TIMEWARP");
	if (!folder)
		return;
	int file = open_in(folder, "control", O_RDWR);
	void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	close(file);
	if (shared == MAP_FAILED) {
		perror("timewarp: mmap");
		abort();
	}
	/* Opened for both, so that neither end waits for the other. */
	order = open_in(folder, "order", O_RDWR | O_NONBLOCK);
	done = open_in(folder, "done", O_RDWR | O_NONBLOCK);
	control = shared;
	control->loaded = 1;
}

/* ---- clocks ---- */

/* What is added to a clock of the system; clocks of processor time are left alone. */
static int64_t shift(clockid_t clock)
{
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
		return control->wall + control->skipped;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_BOOTTIME:
		return control->mono + control->skipped;
	default:
		return 0;
	}
}

static int64_t nanoseconds(const struct timespec *time)
{
	return time->tv_sec * 1000000000LL + time->tv_nsec;
}

static struct timespec timespec(int64_t time)
{
	if (time < 0)
		time = 0;
	return (struct timespec){ .tv_sec = time / 1000000000LL, .tv_nsec = time % 1000000000LL };
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	if (!real_clock_gettime)
		begin();
	int result = real_clock_gettime(clock, time);
	if (result == 0)
		*time = timespec(nanoseconds(time) + shift(clock));
	return result;
}

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return nanoseconds(&time);
}

/* ---- threads: how many are at work ---- */

struct start {
	void *(*routine)(void *);
	void *argument;
};

static void *thread(void *given)
{
	struct start start = *(struct start *)given;
	free(given);
	void *result = start.routine(start.argument);
	threads--;
	return result;
}

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*routine)(void *), void *argument)
{
	struct start *start = malloc(sizeof *start);
	if (!start)
		return EAGAIN;
	*start = (struct start){ routine, argument };
	threads++;
	int result = real_pthread_create(id, attributes, thread, start);
	if (result != 0) {
		threads--;
		free(start);
	}
	return result;
}

/* Who wakes a thread counts it as working: it is not to look idle until it has been given a processor. */
static long futex(int *word, int operation, int value, const struct timespec *timeout, int *second, int bits)
{
	struct timespec real;
	switch (operation & FUTEX_CMD_MASK) {
	case FUTEX_WAIT_BITSET: /* an absolute time */
		if (timeout) {
			clockid_t clock = operation & FUTEX_CLOCK_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC;
			real = timespec(nanoseconds(timeout) - shift(clock));
			timeout = &real;
		}
		/* fall through */
	case FUTEX_WAIT: {
		waiting++;
		long result = real_syscall(SYS_futex, word, operation, value, timeout, second, bits);
		if (result != 0)
			waiting--;
		return result;
	}
	default: {
		long result = real_syscall(SYS_futex, word, operation, value, timeout, second, bits);
		if ((operation & FUTEX_CMD_MASK) == FUTEX_WAKE && result > 0)
			waiting -= (int)result;
		return result;
	}
	}
}

long syscall(long number, ...)
{
	long a[6];
	va_list list;
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (!real_syscall)
		begin();
	if (number == SYS_futex)
		return futex((int *)a[0], (int)a[1], (int)a[2], (const struct timespec *)a[3], (int *)a[4], (int)a[5]);
	return real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- peers: while there is none, nothing can come that a jump would be too early for ---- */

static _Atomic char is_peer[1 << 16];
static _Atomic int peers;

int connect(int file, const struct sockaddr *address, socklen_t length)
{
	if (!real_connect)
		begin();
	int result = real_connect(file, address, length);
	int internet = address->sa_family == AF_INET || address->sa_family == AF_INET6;
	if (internet && file < 1 << 16 && (result == 0 || errno == EINPROGRESS) && !atomic_exchange(&is_peer[file], 1))
		peers++;
	return result;
}

int close(int file)
{
	if (!real_close)
		begin();
	if (file >= 0 && file < 1 << 16 && atomic_exchange(&is_peer[file], 0))
		peers--;
	return real_close(file);
}

/* ---- threads that sleep in simulated time ---- */

static struct sleeper {
	_Atomic int64_t until; /* 0: free */
	_Atomic int asleep;
} sleepers[256];

static void sleep_until(int64_t until)
{
	for (size_t i = 0; i < sizeof sleepers / sizeof *sleepers; i++) {
		int64_t none = 0;
		struct sleeper *self = &sleepers[i];
		/* `asleep` first: the slot counts from the moment in which `until` is set. */
		if (self->asleep || !atomic_compare_exchange_strong(&self->until, &none, -1))
			continue;
		self->asleep = 1;
		waiting++;
		self->until = until;
		while (self->asleep)
			real_syscall(SYS_futex, &self->asleep, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0);
		self->until = 0;
		return;
	}
	fprintf(stderr, "timewarp: more than 256 threads wait for the name service\n");
	abort();
}

/* Wakes the threads whose time has come; when the next one wants to be woken. */
static int64_t wake_sleepers(int64_t time)
{
	int64_t first = FOREVER;
	for (size_t i = 0; i < sizeof sleepers / sizeof *sleepers; i++) {
		struct sleeper *one = &sleepers[i];
		int64_t until = one->until;
		if (until <= 0 || !one->asleep)
			continue;
		if (until > time) {
			first = until < first ? until : first;
			continue;
		}
		waiting--;
		one->asleep = 0;
		real_syscall(SYS_futex, &one->asleep, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return first;
}

/* ---- what tells one boot from another ---- */

static int open_or_replace(const char *path, int flags, mode_t mode)
{
	char own[4096];
	const char *folder = getenv("SMTPRELAY_TIMEWARP");
	if (folder && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0) {
		snprintf(own, sizeof own, "%s/boot_id", folder);
		path = own;
	}
	return openat(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
	va_list list;
	va_start(list, flags);
	/* Without O_CREAT it is not there, and not looked at. */
	mode_t mode = va_arg(list, mode_t);
	va_end(list);
	return open_or_replace(path, flags, mode);
}

/* ---- the name service ---- */

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
	if (!real_getaddrinfo)
		begin();
	control->lookups++;
	switch (control->names) {
	case 0:
		return real_getaddrinfo(node, service, hints, found);
	case 2:
		sleep_until(now() + SILENCE);
		/* fall through */
	default:
		return EAI_AGAIN;
	}
}

/* ---- the sleep of the runtime, where time jumps ---- */

static void announce(int64_t horizon)
{
	if (horizon == 0 || control->reached == horizon)
		return;
	char line[64];
	int length = snprintf(line, sizeof line, "timewarp: reached %lld\n", (long long)horizon);
	if (write(STDERR_FILENO, line, (size_t)length) < 0 && errno != EPIPE)
		abort();
	control->reached = horizon;
	/* A full pipe has news enough. */
	if (write(done, "", 1) < 0 && errno != EAGAIN)
		abort();
}

/* Waits in real time for an event or, where it is given, an order; false when there was none. */
static int listen_for(int epoll, int orders, int64_t real)
{
	struct pollfd files[2] = { { .fd = epoll, .events = POLLIN }, { .fd = orders, .events = POLLIN } };
	struct timespec limit = timespec(real);
	int ready = ppoll(files, 2, real == FOREVER ? NULL : &limit, NULL);
	char bytes[64];
	if (ready < 0)
		return ready;
	while (orders >= 0 && read(orders, bytes, sizeof bytes) > 0)
		;
	return ready;
}

int epoll_wait(int epoll, struct epoll_event *events, int room, int timeout)
{
	if (!real_epoll_wait)
		begin();
	if (timeout == 0 || control->owner != getpid()) {
		/* Not ruled yet: in slices, to see when that changes. */
		int64_t end = timeout < 0 ? FOREVER : now() + timeout * 1000000LL;
		for (;;) {
			int64_t left = end == FOREVER ? 1000 : (end - now()) / 1000000;
			int slice = left < 0 ? 0 : left > 20 ? 20 : (int)left;
			int ready = real_epoll_wait(epoll, events, room, timeout == 0 ? 0 : slice);
			if (ready != 0 || timeout == 0 || now() >= end)
				return ready;
			if (control->owner == getpid()) {
				timeout = end == FOREVER ? -1 : (int)((end - now()) / 1000000);
				break;
			}
		}
	}
	int64_t end = timeout < 0 ? FOREVER : now() + timeout * 1000000LL;
	for (;;) {
		int ready = real_epoll_wait(epoll, events, room, 0);
		if (ready != 0)
			return ready;
		int64_t time = now(), horizon = control->horizon;
		int64_t sleeper = wake_sleepers(time);
		if (time >= end)
			return 0;
		int64_t until = end < sleeper ? end : sleeper;
		int busy = threads > waiting;
		if (time >= horizon && !busy) {
			announce(horizon);
			if (listen_for(epoll, order, until == FOREVER ? FOREVER : until - time) < 0)
				return -1;
			continue;
		}
		int64_t quiet = peers > 0 ? control->quiet : 0;
		if (busy || quiet > 0) {
			int heard = listen_for(epoll, -1, busy ? 20000 : quiet);
			if (heard < 0)
				return -1;
			if (heard > 0 || busy || threads > waiting)
				continue;
			time = now();
			if (time >= until || time >= horizon)
				continue;
		}
		control->skipped += (until < horizon ? until : horizon) - time;
		control->jumps++;
	}
}
