"""The job of the reference notebook: Keras in an iterator `pandas_udf`, with broadcast weights.

Usage: spark_keras.py WEIGHTS PHOTOS

In its favour, the time does not include importing TensorFlow and loading the weights on the driver.
"""

import sys

import common
import keras_reference
import pandas as pd
from keras_reference import network, prepare
from pyspark.sql.functions import PandasUDFType, col, element_at, pandas_udf, split
from spark_common import application, measure

PARTITIONS = 20
"""The same as in the notebook."""


def main():
    weights, photos = sys.argv[1:]
    spark = application()
    for module in (common, keras_reference):
        spark.sparkContext.addPyFile(module.__file__)  # for the workers
    trained = network()
    trained.load_weights(weights)
    values = trained.get_weights()

    def write(output):
        broadcast = spark.sparkContext.broadcast(values)
        featurize = udf(broadcast)
        rows = (
            spark.read.format("binaryFile")
            .option("pathGlobFilter", "*.jpg")
            .option("recursiveFileLookup", "true")
            .load(photos)
            .withColumn("label", element_at(split(col("path"), "/"), -2))
            .repartition(PARTITIONS)
        )
        rows.select("path", "label", featurize("content").alias("features")).write.parquet(output)

    measure(spark, len(common.paths_in(photos)), write)


def udf(broadcast):
    def featurize(batches):
        # Once per task.
        model = network()
        model.set_weights(broadcast.value)
        for photos in batches:
            features = model.predict(prepare(photos), verbose=0)
            yield pd.Series([row.flatten() for row in features])

    return pandas_udf(featurize, "array<float>", PandasUDFType.SCALAR_ITER)


if __name__ == "__main__":
    main()
