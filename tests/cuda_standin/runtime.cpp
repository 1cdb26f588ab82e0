// A CUDA runtime without a GPU, for torch's CUDA build: memory is the host's, kernels and products do nothing and are
// counted, and a stream capture refuses what is listed here. What is read back from the "device" is 0.
//
// Capturing follows CUDA's programming guide: a captured stream takes others in by their events; while anything is
// captured, calls that wait or allocate are refused to every thread that has not asked for the relaxed mode; copies from
// pageable memory are refused; waiting for work outside of the capture is refused. A refusal spoils the capture.

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

struct Graph { std::vector<std::string> nodes; };
struct Capture { unsigned long long id; cudaStreamCaptureMode mode; pthread_t thread; Graph* graph; bool spoilt = false; };
struct Stream { Capture* capture = nullptr; int priority = 0; };
struct Event { double at = 0; Capture* capture = nullptr; };
struct Launch { dim3 grid, block; size_t shared; cudaStream_t stream; };

struct State {
  std::recursive_mutex mutex;
  std::map<const void*, std::string> functions;  // names of kernels
  std::map<const void*, void*> variables;
  std::map<uintptr_t, size_t> device, pinned;  // memory
  std::map<std::string, long> counts;          // what ran, by name
  std::vector<std::string> refused;
  std::set<Capture*> captures;
  std::vector<Stream*> taken_in;
  Stream legacy;
  size_t used = 0;
  unsigned long long captured = 0;
};

State& state() {  // never destroyed: torch calls until the process is gone
  static State* made = new State;
  return *made;
}

const size_t TOTAL = size_t(80) << 30;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;
thread_local std::vector<Launch> launches;

using Lock = std::lock_guard<std::recursive_mutex>;
#define LOCKED Lock lock(state().mutex)

cudaError_t fail(cudaError_t error) { return last_error = error; }

double milliseconds() {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Stream* stream_of(cudaStream_t handle) {
  bool own = handle != nullptr && handle != cudaStreamLegacy && handle != cudaStreamPerThread;
  return own ? reinterpret_cast<Stream*>(handle) : &state().legacy;
}

bool holds(const std::map<uintptr_t, size_t>& ranges, const void* pointer) {
  auto place = reinterpret_cast<uintptr_t>(pointer);
  auto after = ranges.upper_bound(place);
  return after != ranges.begin() && place < std::prev(after)->first + std::prev(after)->second;
}

cudaError_t spoil(Capture* capture, const std::string& why, cudaError_t error = cudaErrorStreamCaptureUnsupported) {
  capture->spoilt = true;
  state().refused.push_back(why);
  return fail(error);
}

// A call that a capture does not bear.
cudaError_t unsafe(const char* name) {
  LOCKED;
  cudaError_t found = cudaSuccess;
  if (mode_of_thread == cudaStreamCaptureModeRelaxed) return found;
  for (Capture* capture : state().captures) {
    bool own = pthread_equal(capture->thread, pthread_self());
    bool bears = capture->mode == cudaStreamCaptureModeRelaxed || (capture->mode == cudaStreamCaptureModeThreadLocal && !own);
    if (!bears) found = spoil(capture, std::string(name) + (own ? "" : ", by another thread"));
  }
  return found;
}

// Work for a stream: recorded while it is captured, else counted.
cudaError_t work(cudaStream_t handle, const std::string& name) {
  LOCKED;
  Capture* capture = stream_of(handle)->capture;
  if (capture == nullptr) {
    if (!state().captures.empty()) state().refused.push_back("outside of the capture: " + name);
    state().counts[name]++;
    return cudaSuccess;
  }
  if (capture->spoilt) return fail(cudaErrorStreamCaptureInvalidated);
  capture->graph->nodes.push_back(name);
  return cudaSuccess;
}

cudaError_t launch(const void* function, dim3 grid, dim3 block, cudaStream_t handle) {
  LOCKED;
  bool some = grid.x && grid.y && grid.z && block.x && block.y && block.z;
  if (!some || block.x * block.y * block.z > 1024 || grid.y > 65535 || grid.z > 65535) return fail(cudaErrorInvalidConfiguration);
  auto named = state().functions.find(function);
  return work(handle, named == state().functions.end() ? "unknown" : named->second);
}

const char* kind_of(const void* to, const void* from) {
  bool onto = holds(state().device, to), off = holds(state().device, from);
  return onto && off ? "copy on the device" : onto ? "copy to the device" : off ? "copy from the device" : "copy on the host";
}

void copy(void* to, const void* from, size_t bytes) {
  if (holds(state().device, from) && !holds(state().device, to)) memset(to, 0, bytes);
  else memcpy(to, from, bytes);
}

int primary_context(int, unsigned* flags, int* active) { return *flags = 0, *active = 1, 0; }
int current_context(void** context) { return *context = &state(), 0; }
int nothing() { return 0; }

}  // namespace

extern "C" {

// ------------------------------------------------------------------------------------------------ what Python asks

void standin_reset() { LOCKED; state().counts.clear(); state().refused.clear(); }
long standin_kernels() { LOCKED; long sum = 0; for (auto& [name, count] : state().counts) sum += count; return sum; }
static void write_text(const char* path, const std::string& text) {
  FILE* file = fopen(path, "w");
  fputs(text.c_str(), file);
  fclose(file);
}
void standin_write_counts(const char* path) {
  LOCKED;
  std::string text;
  for (auto& [name, count] : state().counts) text += std::to_string(count) + "\t" + name + "\n";
  write_text(path, text);
}
void standin_write_refused(const char* path) {
  LOCKED;
  std::string text;
  for (auto& why : state().refused) text += why + "\n";
  write_text(path, text);
}

// ------------------------------------------------------------------------------------------------ kernels

void** __cudaRegisterFatBinary(void*) { static void* handle[64]; return handle; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, void*, void*, void*, void*, int*) {
  LOCKED; state().functions[function] = name;
}
void __cudaRegisterVar(void**, char* variable, char*, const char*, int, size_t bytes, int, int) {
  LOCKED; state().variables[variable] = calloc(1, bytes + 64);
}
unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, CUstream_st* stream) {
  return launches.push_back({grid, block, shared, stream}), 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  Launch top = launches.back();
  launches.pop_back();
  *grid = top.grid, *block = top.block, *shared = top.shared, *static_cast<cudaStream_t*>(stream) = top.stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  return *kernel = (cudaKernel_t)function, cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void**, size_t, cudaStream_t stream) {
  return launch((const void*)kernel, grid, block, stream);
}
#undef cudaLaunchKernel
cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 block, void**, size_t, cudaStream_t stream) {
  return launch(function, grid, block, stream);
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* as, const void* function, void**) {
  return launch(function, as->gridDim, as->blockDim, as->stream);
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  if (stream_of(stream)->capture) return work(stream, "host function");
  return function(data), cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* of, const void*) {
  memset(of, 0, sizeof *of);
  of->maxThreadsPerBlock = 1024, of->binaryVersion = of->ptxVersion = 90, of->numRegs = 32;
  return of->maxDynamicSharedSizeBytes = 232448, cudaSuccess;
}
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void*, int, size_t) { return *blocks = 2, cudaSuccess; }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, const void*, int, size_t, unsigned) {
  return *blocks = 2, cudaSuccess;
}
cudaError_t cudaGetSymbolAddress(void** address, const void* variable) { LOCKED; return *address = state().variables[variable], cudaSuccess; }

// ------------------------------------------------------------------------------------------------ the device: an H100's sizes

cudaError_t cudaGetDeviceCount(int* count) {
  const char* visible = getenv("CUDA_VISIBLE_DEVICES");
  *count = visible == nullptr || *visible != 0;
  return *count ? cudaSuccess : fail(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* of, int) {
  memset(of, 0, sizeof *of);
  strcpy(of->name, "a stand-in: nothing is computed");
  of->totalGlobalMem = TOTAL, of->major = 9, of->multiProcessorCount = 132, of->warpSize = 32;
  of->maxThreadsPerBlock = of->maxThreadsDim[0] = of->maxThreadsDim[1] = 1024, of->maxThreadsDim[2] = 64;
  of->maxGridSize[0] = 2147483647, of->maxGridSize[1] = of->maxGridSize[2] = 65535;
  of->maxThreadsPerMultiProcessor = 2048, of->maxBlocksPerMultiProcessor = 32;
  of->regsPerBlock = of->regsPerMultiprocessor = 65536, of->l2CacheSize = 50 << 20;
  of->sharedMemPerBlock = 49152, of->sharedMemPerBlockOptin = 232448, of->sharedMemPerMultiprocessor = 233472;
  of->textureAlignment = 512, of->concurrentKernels = of->unifiedAddressing = 1, of->asyncEngineCount = 3;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
  static const std::map<int, int> known = {
      {cudaDevAttrComputeCapabilityMajor, 9}, {cudaDevAttrMultiProcessorCount, 132}, {cudaDevAttrWarpSize, 32},
      {cudaDevAttrMaxThreadsPerBlock, 1024}, {cudaDevAttrMaxBlockDimX, 1024}, {cudaDevAttrMaxBlockDimY, 1024},
      {cudaDevAttrMaxBlockDimZ, 64}, {cudaDevAttrMaxGridDimX, 2147483647}, {cudaDevAttrMaxGridDimY, 65535},
      {cudaDevAttrMaxGridDimZ, 65535}, {cudaDevAttrMaxSharedMemoryPerBlock, 49152}, {cudaDevAttrMaxRegistersPerBlock, 65536},
      {cudaDevAttrMaxSharedMemoryPerBlockOptin, 232448}, {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 233472},
      {cudaDevAttrMaxRegistersPerMultiprocessor, 65536}, {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
      {cudaDevAttrMaxBlocksPerMultiprocessor, 32}, {cudaDevAttrL2CacheSize, 50 << 20}, {cudaDevAttrCooperativeLaunch, 1}};
  auto found = known.find(which);
  return *value = found == known.end() ? 0 : found->second, cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t error) { return error ? "cudaError" : "cudaSuccess"; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated: return "operation failed due to a previous error during capture";
    case cudaErrorMemoryAllocation: return "out of memory";
    default: return "an error of the stand-in";
  }
}
int cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) { return primary_context(device, flags, active); }
int cuCtxGetCurrent(void** context) { return current_context(context); }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* result) {
  *function = !strcmp(name, "cuDevicePrimaryCtxGetState") ? (void*)primary_context : !strcmp(name, "cuCtxGetCurrent") ? (void*)current_context : (void*)nothing;
  if (result) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ memory

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *total = TOTAL, *free = TOTAL - state().used, cudaSuccess; }
cudaError_t cudaMalloc(void** pointer, size_t bytes) {
  if (auto error = unsafe("cudaMalloc")) return error;
  LOCKED;
  bytes = (bytes + 4095) & ~size_t(4095);
  if (state().used + bytes > TOTAL) return fail(cudaErrorMemoryAllocation);
  *pointer = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (*pointer == MAP_FAILED) return fail(cudaErrorMemoryAllocation);
  state().device[(uintptr_t)*pointer] = bytes, state().used += bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* pointer) {
  if (pointer == nullptr) return cudaSuccess;
  if (auto error = unsafe("cudaFree")) return error;
  LOCKED;
  auto found = state().device.find((uintptr_t)pointer);
  if (found == state().device.end()) return fail(cudaErrorInvalidValue);
  munmap(pointer, found->second);
  state().used -= found->second, state().device.erase(found);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** pointer, size_t bytes, unsigned) {
  if (auto error = unsafe("cudaHostAlloc")) return error;
  LOCKED;
  bytes = (bytes + 4095) & ~size_t(4095);
  *pointer = aligned_alloc(4096, bytes);
  return state().pinned[(uintptr_t)*pointer] = bytes, cudaSuccess;
}
cudaError_t cudaFreeHost(void* pointer) {
  if (auto error = unsafe("cudaFreeHost")) return error;
  LOCKED;
  state().pinned.erase((uintptr_t)pointer);
  return free(pointer), cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* of, const void* pointer) {
  LOCKED;
  memset(of, 0, sizeof *of);
  bool on_device = holds(state().device, pointer), is_pinned = holds(state().pinned, pointer);
  of->type = on_device ? cudaMemoryTypeDevice : is_pinned ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
  if (on_device || is_pinned) of->devicePointer = const_cast<void*>(pointer);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  LOCKED;
  std::string kind = kind_of(to, from);
  Capture* capture = stream_of(stream)->capture;
  if (capture == nullptr) copy(to, from, bytes);
  else if (kind != "copy on the device") {
    const void* host = holds(state().device, to) ? from : to;
    if (!holds(state().pinned, host)) return spoil(capture, kind + ", pageable memory");
    state().refused.push_back(kind + " in a capture");  // CUDA records it, but a replay would copy what is there then
  }
  return work(stream, kind);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  if (auto error = unsafe("cudaMemcpy")) return error;
  LOCKED;
  return copy(to, from, bytes), work(nullptr, kind_of(to, from));
}
cudaError_t cudaMemsetAsync(void* pointer, int value, size_t bytes, cudaStream_t stream) {
  if (!stream_of(stream)->capture) memset(pointer, value, bytes);
  return work(stream, "memset");
}
cudaError_t cudaMemset(void* pointer, int value, size_t bytes) {
  if (auto error = unsafe("cudaMemset")) return error;
  return memset(pointer, value, bytes), work(nullptr, "memset");
}

// ------------------------------------------------------------------------------------------------ streams and events

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int priority) {
  return *stream = reinterpret_cast<cudaStream_t>(new Stream{nullptr, priority}), cudaSuccess;
}
cudaError_t cudaStreamGetPriority(cudaStream_t stream, int* priority) { return *priority = stream_of(stream)->priority, cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  LOCKED;
  if (Capture* capture = stream_of(stream)->capture) return spoil(capture, "cudaStreamSynchronize of what is captured");
  return unsafe("cudaStreamSynchronize");
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  LOCKED;
  if (Capture* capture = stream_of(stream)->capture) return spoil(capture, "cudaStreamQuery of what is captured");
  return unsafe("cudaStreamQuery");
}
cudaError_t cudaDeviceSynchronize() { return unsafe("cudaDeviceSynchronize"); }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) { return std::swap(*mode, mode_of_thread), cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  LOCKED;
  Capture* capture = stream_of(stream)->capture;
  *status = !capture ? cudaStreamCaptureStatusNone : capture->spoilt ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus* status, unsigned long long* id, cudaGraph_t* graph, const cudaGraphNode_t** before, const cudaGraphEdgeData** edges, size_t* number) {
  LOCKED;
  Capture* capture = stream_of(stream)->capture;
  if (id) *id = capture ? capture->id : 0;
  if (graph) *graph = capture ? (cudaGraph_t)capture->graph : nullptr;
  if (before) *before = nullptr;
  if (edges) *edges = nullptr;
  if (number) *number = 0;
  return cudaStreamIsCapturing(stream, status);
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  LOCKED;
  Stream* origin = stream_of(stream);
  if (origin == &state().legacy) return fail(cudaErrorStreamCaptureUnsupported);
  origin->capture = new Capture{++state().captured, mode, pthread_self(), new Graph};
  return state().captures.insert(origin->capture), cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  LOCKED;
  Capture* capture = stream_of(stream)->capture;
  if (capture == nullptr) return fail(cudaErrorIllegalState);
  stream_of(stream)->capture = nullptr;
  for (Stream* other : state().taken_in) if (other->capture == capture) other->capture = nullptr;
  state().taken_in.clear(), state().captures.erase(capture);
  *graph = capture->spoilt ? nullptr : (cudaGraph_t)capture->graph;
  return capture->spoilt ? fail(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = (cudaEvent_t) new Event, cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned) {
  LOCKED;
  return *(Event*)event = {milliseconds(), stream_of(stream)->capture}, cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }
static cudaError_t ask(cudaEvent_t event, const char* name) {
  LOCKED;
  Capture* capture = ((Event*)event)->capture;
  if (state().captures.count(capture)) return spoil(capture, std::string(name) + " of what is captured", cudaErrorCapturedEvent);
  return unsafe(name);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return ask(event, "cudaEventQuery"); }
cudaError_t cudaEventSynchronize(cudaEvent_t event) { return ask(event, "cudaEventSynchronize"); }
cudaError_t cudaEventElapsedTime(float* passed, cudaEvent_t begin, cudaEvent_t end) {
  return *passed = ((Event*)end)->at - ((Event*)begin)->at, cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  LOCKED;
  Stream* waiting = stream_of(stream);
  Capture* capture = ((Event*)event)->capture;
  if (!state().captures.count(capture)) {
    if (waiting->capture) return spoil(waiting->capture, "a capture waits for work outside of it", cudaErrorStreamCaptureIsolation);
    return cudaSuccess;
  }
  if (waiting == &state().legacy) return spoil(capture, "the default stream waits for a capture", cudaErrorStreamCaptureImplicit);
  if (!waiting->capture) waiting->capture = capture, state().taken_in.push_back(waiting);
  return cudaSuccess;
}

// ------------------------------------------------------------------------------------------------ graphs

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* number) { return *number = ((Graph*)graph)->nodes.size(), cudaSuccess; }
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  return *made = (cudaGraphExec_t) new Graph(*(Graph*)graph), cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  LOCKED;
  if (Capture* capture = stream_of(stream)->capture) return spoil(capture, "cudaGraphLaunch in a capture");
  for (auto& name : ((Graph*)graph)->nodes) state().counts[name]++;
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete (Graph*)graph, cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return delete (Graph*)graph, cudaSuccess; }

// ------------------------------------------------------------------------------------------------ cuBLAS: a kernel for each product

int cublasCreate_v2(void** handle) { return *handle = calloc(1, 64), 0; }
int cublasDestroy_v2(void* handle) { return free(handle), 0; }
int cublasSetStream_v2(void* handle, cudaStream_t stream) { return *(cudaStream_t*)handle = stream, 0; }
int cublasGetMathMode(void*, int* mode) { return *mode = 0, 0; }
int cublasGetPointerMode_v2(void*, int* mode) { return *mode = 0, 0; }
int cublasLtMatmulDescCreate(void** made, int, int) { return *made = calloc(1, 64), 0; }
int cublasLtMatmulDescDestroy(void* made) { return free(made), 0; }
int cublasLtMatrixLayoutCreate(void** made, int, unsigned long, unsigned long, long) { return *made = calloc(1, 64), 0; }
int cublasLtMatrixLayoutDestroy(void* made) { return free(made), 0; }
int cublasLtMatmulPreferenceCreate(void** made) { return *made = calloc(1, 64), 0; }
int cublasLtMatmulPreferenceDestroy(void* made) { return free(made), 0; }
int cublasLtMatmulAlgoGetHeuristic(void*, void*, void*, void*, void*, void*, void*, int, void* results, int* number) {
  return memset(results, 0, 96), *number = 1, 0;
}
int cublasLtMatmul(void*, void*, const void*, const void*, void*, const void*, void*, const void*, const void*, void*, void*, void*, const void*, void*, size_t, cudaStream_t stream) {
  return work(stream, "product (cublasLtMatmul)") ? 13 : 0;
}
#define PRODUCT(name) int name(void* handle) { return work(*(cudaStream_t*)handle, "product (" #name ")") ? 13 : 0; }
PRODUCT(cublasGemmEx) PRODUCT(cublasGemmStridedBatchedEx) PRODUCT(cublasSgemm_v2) PRODUCT(cublasSgemmStridedBatched)
PRODUCT(cublasDgemm_v2) PRODUCT(cublasDgemmStridedBatched) PRODUCT(cublasSgemv_v2) PRODUCT(cublasDotEx) PRODUCT(cublasSdot_v2)

}  // extern "C"
