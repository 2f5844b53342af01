#!/usr/bin/env python3
"""How near the INT8 models come to what this machine can do, and where the rest of their time goes.

    bench/limits.py --write docs/limits.md
    bench/limits.py --models nano --octavo build/release/octavo

Everything is measured by `octavo bench`; the models are those of bench/peers.py, quantized as it quantizes them.
AVX2: INT8 and FP32 in turns, each in a process of its own that --isa avx2 holds to that instruction set.
"""
import argparse
import datetime
import json
import pathlib
import subprocess
import sys

import numpy as np

from peers import DEFAULT_MODELS, MODELS, ROOT, Worker, describe_machine, quantized_model


def bench(args, model, *flags, repeats=1) -> dict:
    command = [args.octavo, "bench", model, "--iterations", repeats * args.iterations, *flags, "--json", "-"]
    output = subprocess.run([str(part) for part in command], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(output.stdout)


def share(part: float) -> str:
    return f"{100 * part:.1f} %"


def measure(name: str, args) -> dict:
    file, _, title = MODELS[name]
    int8, threads = quantized_model(name, args), ("--threads", args.threads)
    print(f"{name} ...", file=sys.stderr)
    result = {"title": title, "profile": bench(args, int8, *threads, "--profile")}
    result["vnni"] = bench(args, int8, *threads, "--profile", "--isa", "avx512_core_vnni")["profile"]
    result["scaling"] = bench(args, int8, *threads, "--scaling", f"1,{args.threads}", repeats=3)["scaling"]
    result["batch"] = bench(args, int8, *threads, "--batch", args.batch)
    result["streams"] = bench(args, int8, "--streams", args.threads, "--threads", 1)
    workers = [Worker([args.octavo, "bench", model, *threads, "--isa", "avx2", "--on-stdin"], args.threads)
               for model in (int8, ROOT / file)]
    for _ in range(args.rounds):
        for worker in workers:
            worker.iterate(2)
    for worker in workers:
        worker.close()
    result["avx2"] = [float(np.median(worker.times)) for worker in workers]
    return result


def rows(results: list, cells) -> str:
    return "\n".join(f"| {result['title']} | " + " | ".join(cells(result)) + " |" for result in results)


def of_limit(result) -> list:
    profile, vnni = result["profile"]["profile"], result["vnni"]
    return [f"{result['profile']['median_ms']:.1f} ms", f"{profile['int8_macs'] * 1e-9:.1f} G",
            f"{profile['int8_gmacs_per_s']:.0f} GMAC/s", share(profile["int8_limit_share"]),
            share(profile["int8_limit_share_of_run"]), share(vnni["int8_limit_share"]), share(vnni["int8_limit_share_of_run"])]


def where(result) -> list:
    profile = result["profile"]["profile"]
    ms = [*profile["ms_by_kind"].values(), profile["scheduling_ms"]]
    return [*(f"{value:.2f}" for value in ms), f"{profile['float_islands']}"]


def throughput(result) -> list:
    two = result["scaling"][1]
    return [f"{two['ratio']:.3f}", f"{result['profile']['peak_rss_mb']:.0f} MB",
            f"{1e3 / result['profile']['median_ms']:.1f}", f"{result['batch']['images_per_s']:.1f}",
            f"{result['streams']['images_per_s']:.1f}"]


def avx2(result) -> list:
    int8, fp32 = result["avx2"]
    return [f"{int8:.1f} ms", f"{fp32:.1f} ms", f"{int8 / fp32:.2f}"]


def page(results: list, args) -> str:
    limits, vnni = results[0]["profile"]["profile"]["limits"], results[0]["vnni"]["limits"]
    kinds = list(results[0]["profile"]["profile"]["ms_by_kind"])
    copies = ", ".join(f"{copy['gb_per_s']:.0f} GB/s of {copy['bytes'] >> 10} KiB" for copy in limits["copies"])
    return f"""# How near to the limit

Made by `bench/limits.py --iterations {args.iterations} --rounds {args.rounds} --write docs/limits.md` on \
{datetime.date.today()}: {describe_machine()}; {results[0]['profile']['isa']}; {args.threads} threads. Octavo's own INT8 \
models, as in [performance.md](performance.md).

Limits are measured beside each model: multiply-accumulates by oneDNN's best matrix product or by a loop over registers, \
whichever is faster, and copies of several sizes. Here {limits['int8_gmacs_per_s']:.0f} GMAC/s for INT8 \
({vnni['int8_gmacs_per_s']:.0f} without AMX, on VNNI), {limits['bf16_gmacs_per_s']:.0f} for BF16, \
{limits['fp32_gmacs_per_s']:.0f} for FP32; {copies}.

## INT8 multiply-accumulates

Of the INT8 limit: over the time of the INT8 steps, with their activations and requantization, and over the whole run.

| model | median | INT8 MACs | rate in their steps | of the limit, steps | of the limit, run | on VNNI, steps | on VNNI, run |
|---|---|---|---|---|---|---|---|
{rows(results, of_limit)}

## Where the time goes

Milliseconds of a run by what steps do, and between them; `octavo bench --profile --top 0` lists the steps.

| model | {' | '.join(kinds)} | between steps | float steps |
|{'---|' * (len(kinds) + 3)}
{rows(results, where)}

## Threads, memory, throughput

{args.threads} threads' time as a share of one's, in turns; peak memory of the process that times one session; images per \
second of one session, of batches of {args.batch}, and of {args.threads} streams of one thread.

| model | {args.threads} threads / 1 | peak memory | images/s | batch of {args.batch} | {args.threads} streams |
|---|---|---|---|---|---|
{rows(results, throughput)}

## Held to AVX2

`--isa avx2`, INT8 and FP32 in turns. Without VNNI a product of bytes is summed in pairs of 16 bits, which saturate: weights \
run in two parts, so that results have the bits that they have on every other machine. Twice the products take what INT8 \
saves; a kernel that widens to 16 bits, as many products per instruction as FP32 has, or one that keeps the few weights \
beyond 64 apart, might win it back; neither has been tried.

| model | INT8 | FP32 | INT8 / FP32 |
|---|---|---|---|
{rows(results, avx2)}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=DEFAULT_MODELS, help=f"of {','.join(MODELS)} (default: {DEFAULT_MODELS})")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5, help="of two runs each, held to AVX2")
    parser.add_argument("--data", default=ROOT / "samples", help="pictures to calibrate on (default: samples/)")
    parser.add_argument("--octavo", type=pathlib.Path, default=ROOT / "build/release/octavo")
    parser.add_argument("--write", metavar="FILE", help="the page of the documentation")
    args = parser.parse_args()
    text = page([measure(name, args) for name in args.models.split(",")], args)
    if args.write:
        pathlib.Path(args.write).write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
