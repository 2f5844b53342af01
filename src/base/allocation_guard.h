// Marks the one place where a run may allocate: inside a third party's call. A test that counts allocations in the
// steady state leaves out those made while an exemption lives on the thread.
#pragma once

namespace octavo {

class AllocationExemption {
 public:
  AllocationExemption() { ++depth(); }
  ~AllocationExemption() { --depth(); }
  AllocationExemption(const AllocationExemption&) = delete;
  AllocationExemption& operator=(const AllocationExemption&) = delete;
  static bool Active() { return depth() > 0; }

 private:
  static int& depth() {
    thread_local int value = 0;
    return value;
  }
};

}  // namespace octavo
