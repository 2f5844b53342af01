# Warnings for our own targets; third-party headers come in as SYSTEM.
function(octavo_target target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wno-unused-parameter)
  # Results must not depend on whether the compiler found a multiply-add to contract: kernels that want one write it.
  target_compile_options(${target} PRIVATE -ffp-contract=off)
endfunction()
