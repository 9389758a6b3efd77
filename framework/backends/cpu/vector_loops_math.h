// Part of vector_loops_body.h: functions of one number, written so that loops over them vectorise.

inline float float_of_bits(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float float_of_bf16(uint16_t upper) {
  return float_of_bits(static_cast<uint32_t>(upper) << 16);
}

// The nearest bfloat16, ties to even; a NaN stays one, though its upper half may be zero.
inline uint16_t bf16_of_float(float value) {
  const uint32_t bits = bits_of_float(value);
  const uint32_t rounded = (bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

// e^x = e * 2^exponent for x within [-88, 89] (Cephes' expf polynomial).
struct ScaledExp {
  float e;
  int32_t exponent;
};
inline ScaledExp scaled_exp_of(float x) {
  // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
  const float shifted = x * 1.44269504f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const int32_t exponent = static_cast<int32_t>(bits_of_float(shifted)) - 0x4B400000;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return {p * (r * r) + r + 1.0f, exponent};
}

// 2^exponent for normal numbers
inline float power_of_two(int32_t exponent) {
  return float_of_bits(static_cast<uint32_t>(exponent + 127) << 23);
}

// e^x within 2 ulp, 0 below the normal range. NaN stays NaN.
inline float exp_of(float x) {
  const ScaledExp scaled = scaled_exp_of(x > 89.0f ? 89.0f : (x < -88.0f ? -88.0f : x));
  // In two steps, since 2^128 is not a float.
  const int32_t half = scaled.exponent >> 1;
  const float result = scaled.e * power_of_two(half) * power_of_two(scaled.exponent - half);
  return x < -87.3365447f ? 0.0f : result;
}

// The same for x <= 88, as softmax has it.
inline float exp_of_small(float x) {
  const ScaledExp scaled = scaled_exp_of(x < -88.0f ? -88.0f : x);
  return x < -87.3365447f ? 0.0f : scaled.e * power_of_two(scaled.exponent);
}

// erf(x) within 2 ulp: two polynomials that meet at |x| = 0.921875 (N. Juffa).
inline float erf_of(float x) {
  const float magnitude = x < 0.0f ? -x : x;
  const float t = magnitude > 4.0f ? 4.0f : magnitude;
  const float s = t * t;
  float far = -1.72853470e-5f * t + 3.83197126e-4f;
  const float u = -3.88396438e-3f * t + 2.42546219e-2f;
  far = far * s + u;
  far = far * t - 1.06777877e-1f;
  far = far * t - 6.34846687e-1f;
  far = far * t - 1.28717512e-1f;
  far = far * t - t;
  far = 1.0f - exp_of(far);
  float near = -5.96761703e-4f;
  near = near * s + 4.99119423e-3f;
  near = near * s - 2.67681349e-2f;
  near = near * s + 1.12819925e-1f;
  near = near * s - 3.76125336e-1f;
  near = near * s + 1.28379166e-1f;
  near = near * t + t;
  const float result = t > 0.921875f ? far : near;
  return x < 0.0f ? -result : result;
}

inline float gelu_of(float x) { return 0.5f * x * (1.0f + erf_of(x * 0.707106781f)); }

inline float gelu_slope_of(float x) {
  const float density = 0.398942280f * exp_of(-0.5f * x * x);
  return 0.5f * (1.0f + erf_of(x * 0.707106781f)) + x * density;
}

inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }

// 0.5 x (1 + tanh(u)), u = sqrt(2 / pi) (x + 0.044715 x^3), as x sigmoid(2u).
inline float gelu_tanh_of(float x) {
  return x * sigmoid_of(1.59576912f * (x + 0.044715f * x * x * x));
}

inline float gelu_tanh_slope_of(float x) {
  const float s = sigmoid_of(1.59576912f * (x + 0.044715f * x * x * x));
  return s + x * (1.59576912f * (1.0f + 0.134145f * x * x)) * s * (1.0f - s);
}
