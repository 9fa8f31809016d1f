/* Carries bytes between pairs of sockets, in a thread that never runs Python.
 *
 * A pair is given to the pump while nothing special happens on it, and comes back when something
 * does: a close frame, a frame over the limit, the end of a stream, an error. Whoever gave it then
 * has two numbers (where in a frame each direction is) and the bytes at hand, and goes on in Python.
 * So the pump knows no close codes, no timeouts and no reasons; it has one job and one loop:
 *
 *     epoll_wait, and for each socket that is ready: recv, follow the frame headers, send.
 *
 * What a socket doesn't take at once (at most one read's worth, `read_bytes`) is kept, and its
 * source isn't read until it is gone: pressure reaches the sender through TCP.
 *
 * Two threads, one lock. The pump holds it while it works through what epoll_wait returned, and
 * gives way between two sockets when another thread wants it, so Python waits for one send at most.
 * The sockets stay their owner's: he takes a pair back before he closes them.
 *
 * A frame takes it microseconds, and waits for a processor for milliseconds where agents keep all of
 * them busy. When it notices that, it asks the kernel to go before ordinary threads (SCHED_RR) for a
 * while, as long as it needs no more than a given share of one processor: beyond that it would take
 * the agents' own time. Where nobody makes it wait it is an ordinary thread, because that is cheaper:
 * the kernel wakes one where a processor and its caches are at hand.
 *
 * gateway/carrier.py is this module's only user. Without it the event loop does the same work. */

#define PY_SSIZE_T_CLEAN
#define _GNU_SOURCE
#include <Python.h>
#include <structmember.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What Python calls here, and how: raised in gateway/carrier.py, too, whenever that changes. */
enum { INTERFACE = 1 };

enum {
    HEAD_MAX = 10,      /* of a frame's header, what tells its length: RFC 6455 section 5.2 */
    EVENTS_AT_ONCE = 64,
    STACK_BYTES = 256 * 1024,
    LATE_NS = 300 * 1000, /* of waiting for a processor each time it is woken: that is late, */
    LATE_PART = 3,      /* and so is the third of all time */
    OPEN_EYED_MS = 10,  /* how often it is looked at whether an ordinary thread is late */
    SHARE_MS = 100,     /* and what share of a processor one needs that goes before others */
    AT_ONCE = 100,      /* turns in that time that follow each other at once; then, as who goes */
    GATHER_NS = 250 * 1000, /* first is woken for each frame, it lets some gather before each, */
    GATHERED = 4,       /* unless these are fewer */
    LONGER = 16,        /* how many times as long as at first it goes before them at most */
    OPCODE = 0x0f,
    CONTROL = 0x8,
    CLOSE = 0x8,
    MASKED = 0x80,
    LENGTH = 0x7f,
};
static const uint64_t WAKE = UINT64_MAX;

/* One direction of a pair: what is read from `fd`. */
struct flow {
    int fd;
    uint32_t unsent_at;      /* of `unsent`, where the rest begins */
    uint32_t unsent_bytes;
    uint32_t rest_bytes;
    uint8_t head_bytes;
    uint8_t head[HEAD_MAX];  /* a header cut off by the end of a read */
    uint8_t *unsent;         /* followed, and on its way to the other socket */
    uint8_t *rest;           /* read, and the reason why the pair comes back */
    uint64_t left;           /* of the frame under way: payload, and its mask */
    uint64_t frames;
    uint64_t controls;       /* of the frames since it was given */
    uint64_t bytes;
};

struct pair {
    struct flow flows[2];
    uint32_t generation;
    uint32_t next_free;
    bool is_used;
    bool is_out;             /* epoll doesn't watch it any more, its owner is told */
};

typedef struct {
    PyObject_HEAD
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t gave_back;
    atomic_int wanted;
    bool is_running;
    bool is_stopping;
    pid_t owner;
    double realtime_share;   /* of a processor; 0 is never */
    double realtime_s;       /* how long it keeps the priority, to begin with */
    bool is_realtime;        /* from here on the thread's own */
    struct timespec looked_at, used_then, changed_at;
    int schedstat_fd;
    unsigned long long waited_ns, woken;
    double held_s;
    double taken_at;         /* up to what share it takes the priority back soon */
    int turns;
    int epoll_fd, wake_fd, notice_fd;
    uint64_t max_frame_bytes;
    size_t read_bytes;
    uint8_t *buffer;         /* HEAD_MAX bytes of room, then read_bytes */
    struct pair **pairs;
    uint32_t size, free_slot;
    uint64_t *out;           /* ids to tell; as many places as there are pairs */
    uint32_t out_count;
} Pump;

static const uint32_t NO_SLOT = UINT32_MAX;

/* ------------------------------------------------------------------ the pump's thread */

/* Follow frame headers; return how many bytes may go on. Short of `size` it means that the header
 * there isn't whole (then it is in `head`), or, with `is_special`, that it is Python's to judge. */
static size_t follow(struct flow *flow, const uint8_t *data, size_t size, uint64_t limit,
                     bool *is_special)
{
    size_t at = 0;
    uint64_t left = flow->left;
    for (;;) {
        if (left >= size - at) {
            flow->left = left - (size - at);
            return size;
        }
        at += left;
        left = 0;
        size_t have = size - at, need = 2;
        uint64_t length = 0;
        if (have >= 2) {
            length = data[at + 1] & LENGTH;
            need = length == 126 ? 4 : length == 127 ? 10 : 2;
        }
        if (have < need) {
            flow->left = 0;
            flow->head_bytes = (uint8_t)have;
            memcpy(flow->head, data + at, have);
            return at;
        }
        if (need > 2) {
            length = 0;
            for (size_t i = 2; i < need; i++)
                length = length << 8 | data[at + i];
        }
        if ((data[at] & OPCODE) == CLOSE || length > limit) {
            flow->left = 0;
            *is_special = true;
            return at;
        }
        flow->frames++;
        flow->controls += (data[at] & CONTROL) != 0;
        left = length + (data[at + 1] & MASKED ? 4 : 0);
        at += need;
    }
}

static uint64_t id_of(const Pump *pump, const struct pair *pair, uint32_t slot)
{
    (void)pump;
    return (uint64_t)pair->generation << 32 | slot;
}

/* Have epoll watch a socket, and tell at once what can be done with it already.
 *
 * It tells of changes only (EPOLLET), so that it needn't look at each socket twice. So whoever leaves
 * something there (bytes, the end of the stream, a socket that took less) has it look again. */
static int watch(const Pump *pump, const struct pair *pair, uint32_t slot, int side, int operation)
{
    /* A slot number has 31 bits, see add_pair(). */
    uint32_t out = pair->flows[!side].unsent != NULL ? EPOLLOUT : 0;
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET | out,
        .data.u64 = (uint64_t)pair->generation << 32 | (uint64_t)slot << 1 | (unsigned)side,
    };
    return epoll_ctl(pump->epoll_fd, operation, pair->flows[side].fd, &event);
}

/* Stop watching the pair and tell its owner. */
static void put_out(Pump *pump, struct pair *pair, uint32_t slot)
{
    if (pair->is_out)
        return;
    pair->is_out = true;
    for (int side = 0; side < 2; side++)
        epoll_ctl(pump->epoll_fd, EPOLL_CTL_DEL, pair->flows[side].fd, NULL);
    pump->out[pump->out_count++] = id_of(pump, pair, slot);
    uint64_t one = 1;
    ssize_t written = write(pump->notice_fd, &one, sizeof one);
    (void)written; /* It can only fail by overflow, and then the owner has been told. */
}

static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    /* Like Python's own small allocations: without memory there is no way to go on. */
    if (copy == NULL)
        abort();
    if (size)
        memcpy(copy, data, size);
    return copy;
}

/* Send; return how many bytes went, or -1 if the socket is broken. */
static ssize_t send_some(int fd, const uint8_t *data, size_t size)
{
    ssize_t sent;
    do
        sent = send(fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS))
        return 0;
    return sent;
}

/* Return whether there may be more to read. */
static bool readable(Pump *pump, struct pair *pair, uint32_t slot, int side)
{
    struct flow *flow = &pair->flows[side];
    uint8_t *room = pump->buffer + HEAD_MAX, *data = room - flow->head_bytes;
    ssize_t got;
    do
        got = recv(flow->fd, room, pump->read_bytes, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return false;
    if (got <= 0) {
        put_out(pump, pair, slot);
        return false;
    }
    memcpy(data, flow->head, flow->head_bytes);
    size_t size = (size_t)got + flow->head_bytes;
    flow->head_bytes = 0;
    flow->bytes += (uint64_t)got;
    bool is_special = false;
    size_t through = follow(flow, data, size, pump->max_frame_bytes, &is_special);
    ssize_t sent = through ? send_some(pair->flows[!side].fd, data, through) : 0;
    bool is_broken = sent < 0;
    if (is_broken)
        sent = 0;
    if ((size_t)sent < through) {
        flow->unsent_bytes = (uint32_t)(through - (size_t)sent);
        flow->unsent = copy_of(data + sent, flow->unsent_bytes);
        flow->unsent_at = 0;
        watch(pump, pair, slot, !side, EPOLL_CTL_MOD);
    }
    if (is_special) {
        flow->rest_bytes = (uint32_t)(size - through);
        flow->rest = copy_of(data + through, flow->rest_bytes);
    }
    if (is_special || is_broken)
        put_out(pump, pair, slot);
    return (size_t)got == pump->read_bytes;
}

/* Send what waited for the socket; its source is to be read again when that has gone. */
static void writable(Pump *pump, struct pair *pair, uint32_t slot, int side)
{
    struct flow *flow = &pair->flows[!side];
    ssize_t sent =
        send_some(pair->flows[side].fd, flow->unsent + flow->unsent_at, flow->unsent_bytes);
    if (sent < 0) {
        put_out(pump, pair, slot);
        return;
    }
    flow->unsent_at += (uint32_t)sent;
    flow->unsent_bytes -= (uint32_t)sent;
    if (flow->unsent_bytes == 0) {
        free(flow->unsent);
        flow->unsent = NULL;
    }
    watch(pump, pair, slot, flow->unsent != NULL ? side : !side, EPOLL_CTL_MOD);
}

static void handle(Pump *pump, const struct epoll_event *event)
{
    uint32_t slot = (uint32_t)event->data.u64 >> 1, generation = event->data.u64 >> 32;
    int side = event->data.u64 & 1;
    struct pair *pair = pump->pairs[slot];
    /* The owner may have taken it back, and another may be there, since epoll_wait returned. */
    if (!pair->is_used || pair->is_out || pair->generation != generation)
        return;
    bool is_ending = event->events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP);
    if (event->events & EPOLLOUT && pair->flows[!side].unsent != NULL)
        writable(pump, pair, slot, side);
    if (pair->is_out)
        return;
    if (event->events & EPOLLIN && pair->flows[side].unsent == NULL) {
        bool is_more = readable(pump, pair, slot, side);
        /* A read stops before urgent data, too. */
        is_more |= is_ending || event->events & EPOLLPRI;
        if (is_more && !pair->is_out)
            watch(pump, pair, slot, side, EPOLL_CTL_MOD);
    } else if (is_ending) {
        /* Who hangs up is noticed, though what he said can't be read yet. */
        put_out(pump, pair, slot);
    }
}

static double since(const struct timespec *then, const struct timespec *now)
{
    return (double)(now->tv_sec - then->tv_sec) + (double)(now->tv_nsec - then->tv_nsec) / 1e9;
}

static void set_realtime(Pump *pump, bool is_wanted)
{
    struct sched_param priority = {.sched_priority = is_wanted ? sched_get_priority_min(SCHED_RR) : 0};
    /* Who may not have it isn't asked again: it is the operator's choice, and stays. */
    if (pthread_setschedparam(pthread_self(), is_wanted ? SCHED_RR : SCHED_OTHER, &priority) == 0)
        pump->is_realtime = is_wanted;
    else
        pump->realtime_share = 0;
}

/* Whether it waited for a processor in the seconds since this was asked, or it can't be known. */
static bool was_late(Pump *pump, double passed)
{
    char text[96];
    ssize_t size = pread(pump->schedstat_fd, text, sizeof text - 1, 0);
    unsigned long long waited_ns, woken;
    text[size > 0 ? size : 0] = 0;
    /* A kernel that doesn't count has three zeros. */
    if (sscanf(text, "%*u %llu %llu", &waited_ns, &woken) != 2 || woken == 0)
        return true;
    double late_ns = (double)(waited_ns - pump->waited_ns);
    bool is_late = late_ns > (double)LATE_NS * (double)(woken - pump->woken) ||
                   late_ns > passed * 1e9 / LATE_PART;
    pump->waited_ns = waited_ns;
    pump->woken = woken;
    return is_late;
}

/* Take the priority when it was late and needs little. Give it up when it needed more than its share,
 * and after a while to see how it does without; each time that goes wrong soon the while is longer. */
static void look_around(Pump *pump)
{
    struct timespec now, used;
    /* Coarse: it is asked after every wait, and a few milliseconds don't matter. */
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    double passed = since(&pump->looked_at, &now), unchanged = since(&pump->changed_at, &now);
    if (passed < (pump->is_realtime ? SHARE_MS : OPEN_EYED_MS) / 1e3)
        return;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    double share = since(&pump->used_then, &used) / passed;
    pump->looked_at = now;
    pump->used_then = used;
    pump->turns = 0;
    if (pump->is_realtime) {
        bool is_dear = share > pump->realtime_share;
        if (!is_dear && unchanged < pump->held_s)
            return;
        pump->taken_at = is_dear ? pump->realtime_share / 2 : pump->realtime_share;
    } else {
        bool is_late = was_late(pump, passed), is_soon = unchanged < pump->held_s;
        if (!is_late || share > (is_soon ? pump->taken_at : pump->realtime_share / 2))
            return;
        if (!is_soon)
            pump->held_s = pump->realtime_s;
        else if (pump->held_s < pump->realtime_s * LONGER)
            pump->held_s *= 2;
    }
    pump->changed_at = now;
    set_realtime(pump, !pump->is_realtime);
    was_late(pump, 0);
}

static void *run(void *argument)
{
    Pump *pump = argument;
    struct epoll_event events[EVENTS_AT_ONCE];
    clock_gettime(CLOCK_MONOTONIC_COARSE, &pump->looked_at);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &pump->used_then);
    pthread_mutex_lock(&pump->lock);
    if (pump->realtime_share > 0)
        pump->schedstat_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    pump->is_running = true;
    pthread_cond_signal(&pump->gave_back);
    while (!pump->is_stopping) {
        pthread_mutex_unlock(&pump->lock);
        bool is_gathering = pump->is_realtime && pump->turns++ >= AT_ONCE;
        if (is_gathering)
            nanosleep(&(struct timespec){.tv_nsec = GATHER_NS}, NULL);
        int count = epoll_wait(pump->epoll_fd, events, EVENTS_AT_ONCE, -1);
        if (is_gathering && count < GATHERED)
            pump->turns = 0;
        if (pump->realtime_share > 0)
            look_around(pump);
        pthread_mutex_lock(&pump->lock);
        for (int i = 0; i < count && !pump->is_stopping; i++) {
            while (atomic_load_explicit(&pump->wanted, memory_order_relaxed))
                pthread_cond_wait(&pump->gave_back, &pump->lock);
            if (events[i].data.u64 != WAKE)
                handle(pump, &events[i]);
        }
    }
    pthread_mutex_unlock(&pump->lock);
    return NULL;
}

/* ------------------------------------------------------------------ Python's side */

static void enter(Pump *pump)
{
    if (pthread_mutex_trylock(&pump->lock) == 0)
        return;
    atomic_fetch_add(&pump->wanted, 1);
    Py_BEGIN_ALLOW_THREADS
    pthread_mutex_lock(&pump->lock);
    Py_END_ALLOW_THREADS
    if (atomic_fetch_sub(&pump->wanted, 1) == 1)
        pthread_cond_signal(&pump->gave_back);
}

static void leave(Pump *pump)
{
    pthread_mutex_unlock(&pump->lock);
}

static bool is_closed(const Pump *pump)
{
    if (pump->is_running)
        return false;
    PyErr_SetString(PyExc_ValueError, "the pump is closed");
    return true;
}

static void free_pair_bytes(struct pair *pair)
{
    for (int side = 0; side < 2; side++) {
        free(pair->flows[side].unsent);
        free(pair->flows[side].rest);
    }
}

static void stop(Pump *pump)
{
    if (!pump->is_running)
        return;
    pump->is_running = false;
    /* In a forked child there is no such thread. */
    if (pump->owner == getpid()) {
        uint64_t one = 1;
        enter(pump);
        pump->is_stopping = true;
        leave(pump);
        ssize_t written = write(pump->wake_fd, &one, sizeof one);
        (void)written;
        Py_BEGIN_ALLOW_THREADS
        pthread_join(pump->thread, NULL);
        Py_END_ALLOW_THREADS
    }
}

static int pump_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    Pump *pump = (Pump *)self;
    static char *names[] = {"max_frame_bytes", "read_bytes", "realtime_share", "realtime_s", NULL};
    unsigned long long max_frame_bytes;
    unsigned int read_bytes;
    double realtime_share = 0, realtime_s = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "KI|dd", names, &max_frame_bytes, &read_bytes,
                                     &realtime_share, &realtime_s))
        return -1;
    if (pump->buffer != NULL) {
        PyErr_SetString(PyExc_ValueError, "a pump is made once");
        return -1;
    }
    pump->max_frame_bytes = max_frame_bytes;
    pump->read_bytes = read_bytes;
    pump->realtime_share = realtime_share;
    pump->realtime_s = realtime_s;
    pump->free_slot = NO_SLOT;
    pump->owner = getpid();
    pump->buffer = malloc(HEAD_MAX + pump->read_bytes);
    if (pump->buffer == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pump->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    pump->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pump->notice_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = WAKE};
    if (pump->epoll_fd < 0 || pump->wake_fd < 0 || pump->notice_fd < 0 ||
        epoll_ctl(pump->epoll_fd, EPOLL_CTL_ADD, pump->wake_fd, &event) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    /* Signals are the main thread's: a new thread inherits the mask. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&pump->thread, &attributes, run, pump);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    pthread_setname_np(pump->thread, "trunkline-pump");
    /* From here on it takes no descriptor. */
    pthread_mutex_lock(&pump->lock);
    while (!pump->is_running)
        pthread_cond_wait(&pump->gave_back, &pump->lock);
    pthread_mutex_unlock(&pump->lock);
    return 0;
}

static PyObject *pump_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)args, (void)kwargs;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Pump *pump = (Pump *)alloc(type, 0);
    if (pump != NULL) {
        pump->epoll_fd = pump->wake_fd = pump->notice_fd = pump->schedstat_fd = -1;
        pthread_mutex_init(&pump->lock, NULL);
        pthread_cond_init(&pump->gave_back, NULL);
    }
    return (PyObject *)pump;
}

static void close_all(Pump *pump)
{
    stop(pump);
    int *fds[] = {&pump->epoll_fd, &pump->wake_fd, &pump->notice_fd, &pump->schedstat_fd};
    for (int i = 0; i < 4; i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
}

static void pump_dealloc(PyObject *self)
{
    Pump *pump = (Pump *)self;
    PyTypeObject *type = Py_TYPE(self);
    close_all(pump);
    for (uint32_t slot = 0; slot < pump->size; slot++) {
        free_pair_bytes(pump->pairs[slot]);
        free(pump->pairs[slot]);
    }
    free(pump->pairs);
    free(pump->out);
    free(pump->buffer);
    pthread_cond_destroy(&pump->gave_back);
    pthread_mutex_destroy(&pump->lock);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Make room for another pair; false without memory. */
static bool grow(Pump *pump)
{
    struct pair **pairs = realloc(pump->pairs, (pump->size + 1) * sizeof *pairs);
    if (pairs == NULL)
        return false;
    pump->pairs = pairs;
    uint64_t *out = realloc(pump->out, (pump->size + 1) * sizeof *out);
    if (out == NULL)
        return false;
    pump->out = out;
    struct pair *pair = calloc(1, sizeof *pair);
    if (pair == NULL)
        return false;
    pair->next_free = NO_SLOT;
    pump->pairs[pump->size] = pair;
    pump->free_slot = pump->size++;
    return true;
}

static int add_pair(Pump *pump, const struct flow flows[2], uint64_t *id)
{
    if (pump->free_slot == NO_SLOT && (pump->size > INT32_MAX / 2 || !grow(pump)))
        return ENOMEM;
    uint32_t slot = pump->free_slot;
    struct pair *pair = pump->pairs[slot];
    for (int side = 0; side < 2; side++) {
        pair->flows[side] = flows[side];
        if (watch(pump, pair, slot, side, EPOLL_CTL_ADD) < 0) {
            int error = errno;
            if (side == 1)
                epoll_ctl(pump->epoll_fd, EPOLL_CTL_DEL, flows[0].fd, NULL);
            return error;
        }
    }
    pump->free_slot = pair->next_free;
    pair->is_used = true;
    pair->is_out = false;
    *id = id_of(pump, pair, slot);
    return 0;
}

static PyObject *pump_add(PyObject *self, PyObject *args)
{
    Pump *pump = (Pump *)self;
    struct flow flows[2] = {{0}, {0}};
    if (!PyArg_ParseTuple(args, "(iKKK)(iKKK)", &flows[0].fd, &flows[0].left, &flows[0].frames,
                          &flows[0].bytes, &flows[1].fd, &flows[1].left, &flows[1].frames,
                          &flows[1].bytes) ||
        is_closed(pump))
        return NULL;
    uint64_t id = 0;
    enter(pump);
    int error = add_pair(pump, flows, &id);
    leave(pump);
    if (error) {
        errno = error;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromUnsignedLongLong(id);
}

/* Return the pair of an id, with the lock held; otherwise NULL, with KeyError and no lock. */
static struct pair *find(Pump *pump, PyObject *argument, uint32_t *slot)
{
    uint64_t id = PyLong_AsUnsignedLongLong(argument);
    if (PyErr_Occurred() || is_closed(pump))
        return NULL;
    *slot = (uint32_t)id;
    enter(pump);
    if (*slot < pump->size) {
        struct pair *pair = pump->pairs[*slot];
        if (pair->is_used && pair->generation == id >> 32)
            return pair;
    }
    leave(pump);
    PyErr_SetObject(PyExc_KeyError, argument);
    return NULL;
}

static PyObject *taken(const struct flow *flow)
{
    /* A header that isn't whole has been read, and nobody was told of it. */
    const char *rest = (const char *)(flow->rest != NULL ? flow->rest : flow->head);
    uint32_t rest_bytes = flow->rest != NULL ? flow->rest_bytes : flow->head_bytes;
    return Py_BuildValue("KKKy#y#K", flow->frames, flow->bytes - rest_bytes, flow->left, rest,
                         (Py_ssize_t)rest_bytes,
                         flow->unsent != NULL ? (char *)flow->unsent + flow->unsent_at : "",
                         (Py_ssize_t)(flow->unsent != NULL ? flow->unsent_bytes : 0),
                         flow->controls);
}

static PyObject *pump_remove(PyObject *self, PyObject *argument)
{
    Pump *pump = (Pump *)self;
    uint32_t slot;
    struct pair *pair = find(pump, argument, &slot);
    if (pair == NULL)
        return NULL;
    if (!pair->is_out) {
        for (int side = 0; side < 2; side++)
            epoll_ctl(pump->epoll_fd, EPOLL_CTL_DEL, pair->flows[side].fd, NULL);
    } else {
        /* Its owner may not have asked yet; he mustn't be told of it twice. */
        uint64_t id = id_of(pump, pair, slot);
        for (uint32_t i = 0; i < pump->out_count; i++)
            if (pump->out[i] == id)
                pump->out[i--] = pump->out[--pump->out_count];
    }
    struct pair was = *pair;
    memset(pair->flows, 0, sizeof pair->flows);
    pair->is_used = false;
    pair->generation++;
    pair->next_free = pump->free_slot;
    pump->free_slot = slot;
    leave(pump);
    PyObject *one = taken(&was.flows[0]), *other = taken(&was.flows[1]);
    free_pair_bytes(&was);
    if (one == NULL || other == NULL) {
        Py_XDECREF(one);
        Py_XDECREF(other);
        return NULL;
    }
    PyObject *both = PyTuple_Pack(2, one, other);
    Py_DECREF(one);
    Py_DECREF(other);
    return both;
}

static PyObject *pump_counters(PyObject *self, PyObject *argument)
{
    Pump *pump = (Pump *)self;
    uint32_t slot;
    struct pair *pair = find(pump, argument, &slot);
    if (pair == NULL)
        return NULL;
    struct flow flows[2] = {pair->flows[0], pair->flows[1]};
    leave(pump);
    return Py_BuildValue("(KKIK)(KKIK)", flows[0].frames, flows[0].bytes, flows[0].unsent_bytes,
                         flows[0].controls, flows[1].frames, flows[1].bytes,
                         flows[1].unsent_bytes, flows[1].controls);
}

static PyObject *pump_take_out(PyObject *self, PyObject *nothing)
{
    Pump *pump = (Pump *)self;
    (void)nothing;
    if (is_closed(pump))
        return NULL;
    enter(pump);
    uint64_t told;
    ssize_t got = read(pump->notice_fd, &told, sizeof told);
    (void)got;
    uint32_t count = pump->out_count;
    pump->out_count = 0;
    uint64_t *ids = (uint64_t *)copy_of((uint8_t *)pump->out, count * sizeof *ids);
    leave(pump);
    PyObject *list = PyList_New(count);
    for (uint32_t i = 0; list != NULL && i < count; i++) {
        PyObject *id = PyLong_FromUnsignedLongLong(ids[i]);
        if (id == NULL || PyList_SetItem(list, i, id) < 0)
            Py_CLEAR(list);
    }
    free(ids);
    return list;
}

static PyObject *pump_fileno(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    return is_closed((Pump *)self) ? NULL : PyLong_FromLong(((Pump *)self)->notice_fd);
}

static PyObject *pump_close(PyObject *self, PyObject *nothing)
{
    (void)nothing;
    close_all((Pump *)self);
    Py_RETURN_NONE;
}

static PyMethodDef pump_methods[] = {
    {"add", pump_add, METH_VARARGS,
     "add(one, other)\n--\n\nCarry between two sockets, each (fd, left, frames, bytes); return an id."},
    {"remove", pump_remove, METH_O,
     "remove(id)\n--\n\nStop carrying; return (frames, bytes, left, rest, unsent, controls) of each."},
    {"counters", pump_counters, METH_O,
     "counters(id)\n--\n\nReturn (frames, bytes, waiting, controls) of each."},
    {"take_out", pump_take_out, METH_NOARGS,
     "take_out()\n--\n\nReturn the ids of pairs that aren't carried any more."},
    {"fileno", pump_fileno, METH_NOARGS,
     "fileno()\n--\n\nReturn a descriptor that is readable when take_out has something."},
    {"close", pump_close, METH_NOARGS, "close()\n--\n\nEnd the thread. Twice is fine."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pump_slots[] = {
    {Py_tp_doc, "A thread that carries bytes between pairs of sockets."},
    {Py_tp_new, pump_new},
    {Py_tp_init, pump_init},
    {Py_tp_dealloc, pump_dealloc},
    {Py_tp_methods, pump_methods},
    {0, NULL},
};

static PyType_Spec pump_spec = {
    .name = "trunkline.gateway._pump.Pump",
    .basicsize = sizeof(Pump),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = pump_slots,
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&pump_spec);
    if (type == NULL)
        return -1;
    int failed = PyModule_AddObjectRef(module, "Pump", type);
    Py_DECREF(type);
    return failed ? failed : PyModule_AddIntMacro(module, INTERFACE);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "trunkline.gateway._pump",
    .m_doc = "Carries bytes between pairs of sockets, in a thread that never runs Python.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__pump(void)
{
    return PyModuleDef_Init(&module);
}
