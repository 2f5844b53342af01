#include <algorithm>

#include "engine/plan.h"

namespace octavo {

int64_t PlaceBuffers(std::vector<Buffer>& buffers) {
  constexpr int64_t kAlign = 64;
  std::vector<Buffer*> order;
  for (auto& buffer : buffers) {
    if (buffer.kind == Buffer::Kind::kArena && buffer.first_step >= 0) order.push_back(&buffer);
  }
  std::stable_sort(order.begin(), order.end(), [](const Buffer* a, const Buffer* b) { return a->bytes > b->bytes; });

  int64_t total = 0;
  std::vector<const Buffer*> placed, rivals;
  for (Buffer* buffer : order) {
    rivals.clear();
    for (const Buffer* other : placed) {
      if (other->first_step <= buffer->last_step && buffer->first_step <= other->last_step) rivals.push_back(other);
    }
    std::sort(rivals.begin(), rivals.end(), [](const Buffer* a, const Buffer* b) { return a->place < b->place; });
    int64_t place = 0;
    for (const Buffer* rival : rivals) {
      if (rival->place >= place + buffer->bytes) break;
      place = std::max(place, (rival->place + rival->bytes + kAlign - 1) / kAlign * kAlign);
    }
    buffer->place = place;
    placed.push_back(buffer);
    total = std::max(total, place + buffer->bytes);
  }
  return (total + kAlign - 1) / kAlign * kAlign;
}

}  // namespace octavo
