"""What became of a traced function, as text."""

from .plan import Plan
from .program import Operation


def report(plan: Plan) -> str:
    """A line for each: what was fused, what runs by NumPy, memory, and seconds."""
    stages = plan.emitted.stages
    nests = [stage for stage in stages if stage.space is not None]
    fused = sum(len(stage.operations) for stage in nests)
    left = by_numpy(plan)
    return "\n".join(
        [
            f"{len(plan.traced.operations)} operations traced, "
            f"{len(plan.program.operations)} after passes",
            f"{len(nests)} nests of loops for {fused} operations, "
            f"{len(stages) - len(nests) - len(left)} calls of kernels and BLAS",
            f"{len(plan.emitted.draws)} arrays of random numbers, drawn before",
            f"by NumPy, outside compiled code: {', '.join(left) or 'nothing'}",
            f"{plan.buffer_bytes:,} bytes of buffers",
            f"traced and written in {plan.compile_seconds:.3f} s",
            *(f"{name}: {how}, {took:.3f} s" for name, (how, took) in plan.built.items()),
            *([] if plan.built else ["to be compiled, or loaded, in the next call"]),
        ]
    )


def by_numpy(plan: Plan) -> list[str]:
    """The operations that are left to NumPy."""
    return [step.name for step in plan.emitted.steps if isinstance(step, Operation)]
