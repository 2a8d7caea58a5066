// A CUDA driver of host memory: as much of libcuda as engines.device calls through the real Python bindings.
// As late as a GPU: a stream's work is done when it is awaited. Calls outside of a context are refused.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NOT_FOUND = 500 };

typedef struct Work {
    void* to;
    const void* from;
    size_t size;
    struct Stream* after;  // all of it first
    struct Work* next;
} Work;
typedef struct Stream {
    Work *first, *last;
    struct Stream* recorded;  // where its work goes meanwhile
} Stream;
typedef struct Event {
    Stream* stream;
} Event;

static long live;  // what was given out and not given back
static _Thread_local int contexts;

#define CURRENT \
    if (contexts <= 0) return INVALID_CONTEXT

long stand_in_live(void) { return live; }

static void* made(size_t size) {
    void* thing = calloc(1, size);
    live += thing != NULL;
    return thing;
}

static int gone(void* thing) {
    CURRENT;
    free(thing);
    live--;
    return SUCCESS;
}

static void append(Stream* stream, Work work) {
    if (stream->recorded) stream = stream->recorded;
    Work* added = malloc(sizeof *added);
    *added = work;
    added->next = NULL;
    if (stream->last) stream->last->next = added;
    else stream->first = added;
    stream->last = added;
}

static void finish(Stream* stream) {
    while (stream->first) {
        Work* work = stream->first;
        stream->first = work->next;
        if (!stream->first) stream->last = NULL;
        if (work->after && work->after != stream) finish(work->after);
        if (work->size) memcpy(work->to, work->from, work->size);
        free(work);
    }
}

static int copied(void* to, const void* from, size_t size, Stream* stream) {
    CURRENT;
    append(stream, (Work){.to = to, .from = from, .size = size});
    return SUCCESS;
}

int cuInit(unsigned flags) { return flags ? INVALID_VALUE : SUCCESS; }
int cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
int cuDeviceGet(int* device, int ordinal) { return *device = ordinal, ordinal ? 101 : SUCCESS; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    *value = attribute == 75 ? 8 : attribute == 76 ? 6 : 1;  // the compute capability's two halves
    return SUCCESS;
}
int cuDeviceComputeCapability(int* major, int* minor, int device) {
    return (void)device, *major = 8, *minor = 6, SUCCESS;
}
int cuGetErrorString(int error, const char** text) {
    *text = error == OUT_OF_MEMORY ? "out of memory" : error == INVALID_CONTEXT ? "invalid device context" : "failed";
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void** context, int device) {
    (void)device;
    live++;
    return *context = &live, SUCCESS;
}
int cuDevicePrimaryCtxRelease(int device) { return (void)device, live--, SUCCESS; }
int cuCtxPushCurrent(void* context) { return contexts += context == &live, SUCCESS; }
int cuCtxPopCurrent(void** context) { return contexts--, *context = &live, SUCCESS; }
int cuCtxDetach(void* context) { return (void)context, INVALID_CONTEXT; }  // not for the primary one
int cuCtxGetCurrent(void** context) { return *context = contexts > 0 ? &live : NULL, SUCCESS; }
int cuCtxGetDevice(int* device) {
    CURRENT;
    return *device = 0, SUCCESS;
}

int cuMemAlloc(uint64_t* pointer, size_t size) {
    CURRENT;
    if (size > (size_t)1 << 30) return OUT_OF_MEMORY;
    return *pointer = (uintptr_t)made(size), SUCCESS;
}
int cuMemFree(uint64_t pointer) { return gone((void*)(uintptr_t)pointer); }
int cuMemHostAlloc(void** pointer, size_t size, unsigned flags) {
    (void)flags;
    CURRENT;
    return *pointer = made(size), SUCCESS;
}
int cuMemFreeHost(void* pointer) { return gone(pointer); }

int cuStreamCreate(Stream** stream, unsigned flags) {
    CURRENT;
    return *stream = made(sizeof(Stream)), flags == 1 ? SUCCESS : INVALID_VALUE;  // non-blocking
}
int cuStreamDestroy(Stream* stream) { return finish(stream), gone(stream); }
int cuStreamSynchronize(Stream* stream) {
    CURRENT;
    return finish(stream), SUCCESS;
}
int cuStreamWaitEvent(Stream* stream, Event* event, unsigned flags) {
    (void)flags;
    CURRENT;
    append(stream, (Work){.after = event->stream});
    return SUCCESS;
}
int cuMemcpyHtoDAsync(uint64_t to, const void* from, size_t size, Stream* stream) {
    return copied((void*)(uintptr_t)to, from, size, stream);
}
int cuMemcpyDtoHAsync(void* to, uint64_t from, size_t size, Stream* stream) {
    return copied(to, (void*)(uintptr_t)from, size, stream);
}
int cuMemcpyDtoDAsync(uint64_t to, uint64_t from, size_t size, Stream* stream) {
    return copied((void*)(uintptr_t)to, (void*)(uintptr_t)from, size, stream);
}

int cuEventCreate(Event** event, unsigned flags) {
    CURRENT;
    return *event = made(sizeof(Event)), flags == 3 ? SUCCESS : INVALID_VALUE;  // sleeps, keeps no time
}
int cuEventRecord(Event* event, Stream* stream) {
    CURRENT;
    return event->stream = stream, SUCCESS;
}
int cuEventSynchronize(Event* event) {
    CURRENT;
    if (event->stream) finish(event->stream);
    return SUCCESS;
}
int cuEventDestroy(Event* event) { return gone(event); }

// A graph and what can be run of it are a stream that nobody waits for.
int cuStreamBeginCapture(Stream* stream, int mode) {
    CURRENT;
    return stream->recorded = made(sizeof(Stream)), mode == 1 ? SUCCESS : INVALID_VALUE;  // of this thread alone
}
int cuStreamEndCapture(Stream* stream, Stream** graph) {
    CURRENT;
    *graph = stream->recorded;
    return stream->recorded = NULL, SUCCESS;
}
int cuGraphInstantiateWithFlags(Stream** executable, Stream* graph, uint64_t flags) {
    (void)flags;
    CURRENT;
    *executable = made(sizeof(Stream));
    for (Work* work = graph->first; work; work = work->next) append(*executable, *work);
    return SUCCESS;
}
int cuGraphLaunch(Stream* executable, Stream* stream) {
    CURRENT;
    for (Work* work = executable->first; work; work = work->next) append(stream, *work);
    return SUCCESS;
}
static int forgotten(Stream* graph) {
    while (graph->first) {
        Work* work = graph->first;
        graph->first = work->next;
        free(work);
    }
    return gone(graph);
}
int cuGraphDestroy(Stream* graph) { return forgotten(graph); }
int cuGraphExecDestroy(Stream* executable) { return forgotten(executable); }

// By this cuda-python finds all others; pycuda calls some by the names of their second versions.
int cuGetProcAddress_v2(const char* name, void** function, int version, uint64_t flags, int* status) {
    (void)version, (void)flags;
    *function = dlsym(RTLD_DEFAULT, name);
    if (!*function) {
        Dl_info self;
        dladdr(&live, &self);
        *function = dlsym(dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD), name);
    }
    if (status) *status = *function ? 0 : 1;
    return *function ? SUCCESS : NOT_FOUND;
}
int cuCtxPushCurrent_v2() __attribute__((alias("cuCtxPushCurrent")));
int cuCtxPopCurrent_v2() __attribute__((alias("cuCtxPopCurrent")));
int cuMemAlloc_v2() __attribute__((alias("cuMemAlloc")));
int cuMemFree_v2() __attribute__((alias("cuMemFree")));
int cuMemcpyHtoDAsync_v2() __attribute__((alias("cuMemcpyHtoDAsync")));
int cuMemcpyDtoHAsync_v2() __attribute__((alias("cuMemcpyDtoHAsync")));
int cuMemcpyDtoDAsync_v2() __attribute__((alias("cuMemcpyDtoDAsync")));
int cuStreamDestroy_v2() __attribute__((alias("cuStreamDestroy")));
int cuEventDestroy_v2() __attribute__((alias("cuEventDestroy")));
int cuDevicePrimaryCtxRelease_v2() __attribute__((alias("cuDevicePrimaryCtxRelease")));
