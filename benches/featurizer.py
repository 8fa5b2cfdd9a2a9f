"""Pomona: photos in, features out."""

from common import arguments, cores, measure, photos_in

import pomona


def main():
    args = arguments(__doc__)
    featurizer = pomona.Featurizer(args.model, threads=cores())
    measure(featurizer.featurize, photos_in(args.photos), args.seconds)


if __name__ == "__main__":
    main()
