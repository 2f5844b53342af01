#include <cstdio>

#include "octavo/version.h"

int main() {
  std::printf("octavo %s\n", octavo::kVersion);
  return 0;
}
