// What every kernel has: the same text for NVRTC, which has no headers, and for a compiler of the host.
#ifdef __CUDACC_RTC__
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif
typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef int int32;
typedef unsigned uint32;
typedef long long int64;
typedef unsigned long long uint64;
typedef float float32;
typedef double float64;

// The larger and the smaller of two numbers, and NaN where one is NaN.
template <class T> __device__ T most(T a, T b) { return b != b || !(a <= b) ? (b != b ? b : a) : b; }
template <class T> __device__ T least(T a, T b) { return b != b || !(a >= b) ? (b != b ? b : a) : b; }

// Whether a number is larger, or smaller, than another one; NaN is both.
template <class T> __device__ bool more(T a, T b) { return a != a ? b == b : a > b; }
template <class T> __device__ bool less(T a, T b) { return a != a ? b == b : a < b; }

template <class T> __device__ T plus(T a, T b) { return a + b; }
template <class T> __device__ T times(T a, T b) { return a * b; }
template <class T> __device__ T both(T a, T b) { return a && b; }
template <class T> __device__ T either(T a, T b) { return a || b; }
template <class T> __device__ T sign(T a) { return a != a ? a : (T)((a > 0) - (a < 0)); }
template <class T> __device__ bool is_finite(T a) { return a - a == 0; }

// Division towards minus infinity, and its remainder, which has the sign of b.
__device__ float32 remainder_of(float32 a, float32 b) {
  float32 r = fmodf(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r == 0 ? copysignf(0.0f, b) : r;
}
__device__ float64 remainder_of(float64 a, float64 b) {
  float64 r = fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r == 0 ? copysign(0.0, b) : r;
}
template <class T> __device__ T remainder_of(T a, T b) {
  if (b == 0) return 0;
  T r = a % b;
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
__device__ float32 floor_divided(float32 a, float32 b) {
  float32 r = fmodf(a, b), q = rintf((a - r) / b - (r != 0 && (r < 0) != (b < 0)));
  return b == 0 ? a / b : q != 0 ? q : copysignf(0.0f, a / b);
}
__device__ float64 floor_divided(float64 a, float64 b) {
  float64 r = fmod(a, b), q = rint((a - r) / b - (r != 0 && (r < 0) != (b < 0)));
  return b == 0 ? a / b : q != 0 ? q : copysign(0.0, a / b);
}
template <class T> __device__ T floor_divided(T a, T b) {
  if (b == 0) return 0;
  T r = a % b;
  return a / b - (r != 0 && (r < 0) != (b < 0));
}

__device__ float32 power(float32 a, float32 b) { return powf(a, b); }
__device__ float64 power(float64 a, float64 b) { return pow(a, b); }
template <class T> __device__ T power(T a, T b) {
  T x = 1;
  for (; b > 0; b >>= 1, a *= a)
    if (b & 1) x *= a;
  return x;
}

// log(exp(a) + exp(b))
__device__ float32 log_of_sum(float32 a, float32 b) {
  return a == b ? a + 0.693147180559945309f : most(a, b) + log1pf(expf(-fabsf(a - b)));
}
__device__ float64 log_of_sum(float64 a, float64 b) {
  return a == b ? a + 0.693147180559945309 : most(a, b) + log1p(exp(-fabs(a - b)));
}

// The nearest bfloat16, of two the even one: the upper half of a float32.
typedef unsigned short bfloat16;
__device__ bfloat16 rounded(float32 x) {
  union { float32 number; uint32 bits; } u;
  u.number = x;
  return x != x ? 0x7fc0 : (u.bits + 0x7fff + ((u.bits >> 16) & 1)) >> 16;
}

// f of one number of each lane: every lane of the warp gets it.
template <class T, class F> __device__ T over_warp(T x, F f) {
  for (int d = 16; d; d >>= 1) x = f(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}

// f of the numbers that the same lane of each warp has: the first warp gets it. The tile has a row for each warp.
template <class T, class F> __device__ T over_warps(T x, T (*tile)[32], F f) {
  tile[threadIdx.x / 32][threadIdx.x % 32] = x;
  __syncthreads();
  if (threadIdx.x < 32)
    for (uint32 k = 1; k < blockDim.x / 32; k++) x = f(x, tile[k][threadIdx.x]);
  __syncthreads();  // the tile is free for the next sum
  return x;
}

// Whether a block is the last of several that come here. Then it sees what all threads of the others have written.
__device__ bool is_last(volatile uint32* counter, uint32 blocks) {
  __shared__ bool last;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicInc((uint32*)counter, blocks - 1) == blocks - 1;  // sets the counter back to 0, too
    __threadfence();
  }
  __syncthreads();
  return last;
}
