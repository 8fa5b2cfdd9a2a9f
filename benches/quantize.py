"""Make the int8 version of a model and print how near it comes, as JSON.

Usage: quantize.py MODEL PHOTOS OUTPUT
"""

import json
import sys
from dataclasses import asdict

from pomona.models import quantize


def main():
    model, photos, output = sys.argv[1:]
    quantized = quantize(model, photos, output, overwrite=True)
    print(json.dumps(asdict(quantized)))


if __name__ == "__main__":
    main()
