# ---
# jupyter:
#   kernelspec:
#     display_name: PySpark
#     language: python
#     name: pysparkkernel
#   language_info:
#     codemirror_mode:
#       name: python
#       version: 3
#     file_extension: .py
#     mimetype: text/x-python
#     name: pyspark
#     pygments_lexer: python3
# ---

# %% title [markdown] lang="en"
# # Fruits! on EMR: from photos to decisions
#
# *Fruits!* is a young AgriTech company whose mobile application recognises fruit. This notebook
# takes its team's pipeline step by step. The photos are on S3; a pretrained neural network turns
# each into 1,280 numbers, a PCA keeps what matters of them, and the result is written to S3 as
# Parquet, read back and checked. Then a classifier is trained, and the photos themselves are
# examined: which labels look wrong, which photos are almost the same, and what to do about them.
# All computing takes place on the EMR cluster, in Paris (GDPR): the notebook only gives the orders.
#
# **The outputs below** do not come from AWS. Sparkmagic's kernel ran this notebook on the miniature
# cluster of Pomona's tests: Livy 0.7.1, YARN and HDFS 3.2.1, Spark 3.1.2 and Python 3.7, as on EMR
# 6.4.0, but on one machine with 2 cores and a local S3 server. The part of Livy that runs in the
# driver is the tests' own, because Maven Central does not have it. The bucket and the path of
# Python were different there. The photos are 600 of [Fruits-360](https://github.com/fruits-360)
# (Horea Mureșan, Mihai Oltean; CC BY-SA 4.0). A French version of this notebook is
# `fruits_on_emr.fr.ipynb`.

# %% title [markdown] lang="fr"
# # Fruits! sur EMR : des photos aux décisions
#
# *Fruits!* est une jeune entreprise de l'AgriTech dont l'application mobile reconnaît les fruits.
# Ce carnet reprend pas à pas la chaîne de traitement de l'équipe. Les photos sont sur S3 ; un
# réseau de neurones préentraîné tire de chacune 1 280 nombres ; une ACP en garde l'essentiel ; le
# résultat est écrit sur S3 en Parquet, puis relu et vérifié. On entraîne ensuite un classifieur, et
# l'on examine les photos elles-mêmes : lesquelles semblent mal étiquetées, lesquelles sont presque
# identiques, et que faire des unes et des autres. Tout le calcul a lieu sur le cluster EMR, à Paris
# (RGPD) : le carnet ne fait que le commander.
#
# **Les sorties ci-dessous** ne viennent pas d'AWS. Le noyau de sparkmagic a exécuté ce carnet sur
# le cluster miniature des tests de Pomona : Livy 0.7.1, YARN et HDFS 3.2.1, Spark 3.1.2 et Python
# 3.7, comme sur EMR 6.4.0, mais sur une seule machine à 2 cœurs et avec un serveur S3 local. La
# partie de Livy qui tourne dans le pilote est celle des tests, car Maven Central ne l'a pas. Le
# bucket et le chemin de Python étaient différents. Les photos sont 600 images de
# [Fruits-360](https://github.com/fruits-360) (Horea Mureșan, Mihai Oltean ; CC BY-SA 4.0). Le code,
# ses sorties et les légendes des figures sont en anglais, comme la bibliothèque. La version
# anglaise de ce carnet est `fruits_on_emr.ipynb`.

# %% session [markdown] lang="en"
# ## 1. The session
#
# Kernel: **PySpark**. Livy sends each cell to the driver on the cluster; files and packages of
# JupyterHub's container are not available there. Three things to know:
#
# - **`%%configure -f` ends the running session and starts a new one**, without the variables of the
#   old one. It must come first, and only once.
# - Sparkmagic requests a driver of 1000 MB and executors of 2 cores unless it is told otherwise,
#   whatever the cluster's own settings are. The numbers below must fit the nodes: `make emr-up`
#   fills them in for the type of yours. In the repository they are those of an m5.xlarge, where
#   YARN has 12,288 MB per node, for one executor (5 + 4 GB; photos, Arrow and the model live in the
#   overhead) and a driver. If you started the cluster in the console, copy them from the output
#   `NotebookConfigure` of its stack. `/opt/pomona/venv` is the Python of every node.
# - **Livy ends an idle session** after four hours on a cluster of `bootstrap/cluster.yaml`, or
#   after one on others. Cells then fail with *session not found*: run all cells from the top.
#   Results on S3 are not computed again.

# %% session [markdown] lang="fr"
# ## 1. La session
#
# Noyau : **PySpark**. Livy envoie chaque cellule au pilote, sur le cluster ; les fichiers et les
# paquets du conteneur de JupyterHub n'y sont pas accessibles. Trois choses à savoir :
#
# - **`%%configure -f` met fin à la session en cours et en ouvre une nouvelle**, sans les variables
#   de l'ancienne. Cette cellule doit venir en premier, et une seule fois.
# - Sans autre indication, sparkmagic demande un pilote de 1000 Mo et des exécuteurs à 2 cœurs,
#   quels que soient les réglages du cluster. Les valeurs ci-dessous doivent convenir aux nœuds :
#   `make emr-up` y met celles de votre type d'instance. Dans le dépôt, ce sont celles d'une
#   m5.xlarge, où YARN dispose de 12 288 Mo par nœud, pour un exécuteur (5 + 4 Go ; les photos,
#   Arrow et le modèle occupent les 4 Go de mémoire supplémentaire) et un pilote. Si vous avez
#   démarré le cluster depuis la console, recopiez-les depuis la sortie `NotebookConfigure` de sa
#   pile. `/opt/pomona/venv` est le Python de chaque nœud.
# - **Livy ferme une session inactive** au bout de quatre heures sur un cluster créé avec
#   `bootstrap/cluster.yaml`, d'une heure sur les autres. Les cellules échouent alors avec *session
#   not found* : relancez-les toutes depuis le début. Les résultats déjà écrits sur S3 ne sont pas
#   recalculés.

# %% configure active="ipynb"
# %%configure -f
# {
#     "driverMemory": "2g",
#     "executorMemory": "5g",
#     "executorCores": 4,
#     "conf": {
#         "spark.pyspark.python": "/opt/pomona/venv/bin/python",
#         "spark.pyspark.driver.python": "/opt/pomona/venv/bin/python",
#         "spark.executor.memoryOverhead": "4g",
#         "spark.executorEnv.OMP_NUM_THREADS": "1",
#         "spark.sql.adaptive.enabled": "true",
#         "spark.sql.execution.arrow.maxRecordsPerBatch": "256",
#         "spark.sql.execution.arrow.pyspark.enabled": "true"
#     }
# }

# %% paths [markdown] lang="en"
# ## 2. Paths
#
# This is the only cell to change, unless `make emr-up` has filled it in. Use `s3://`, which is
# EMR's own client, and no double slashes: on S3, `Rep1//Test` and `Rep1/Test` are different
# folders.

# %% paths [markdown] lang="fr"
# ## 2. Les chemins
#
# C'est la seule cellule à modifier, à moins que `make emr-up` ne l'ait déjà remplie. Utilisez
# `s3://`, qui est le client d'EMR, et jamais de double barre : sur S3, `Rep1//Test` et `Rep1/Test`
# sont deux dossiers différents.

# %% parameters tags=["parameters"]
BUCKET = "YOUR-BUCKET"

PHOTOS = f"s3://{BUCKET}/Test"
MODEL = f"s3://{BUCKET}/models/efficientnet_lite0.onnx"
RESULTS = f"s3://{BUCKET}/results"

# %% imports
import platform

import matplotlib.pyplot as plt
import pandas as pd
from pyspark.sql import functions as F

import pomona.spark
from pomona import findings, pipeline, plots, similar

plt.rcParams["figure.dpi"] = plots.DPI
print(f"Pomona {pomona.__version__}, Spark {spark.version}, Python {platform.python_version()}")

# %% photos [markdown] lang="en"
# ## 3. Photos
#
# The folders are listed now; tasks read the photos when they need them. A photo's label is the name
# of its folder.

# %% photos [markdown] lang="fr"
# ## 3. Les photos
#
# Les dossiers sont parcourus dès maintenant ; les photos ne seront lues que par les tâches qui en
# ont besoin. L'étiquette d'une photo est le nom de son dossier.

# %% read
photos = pomona.spark.read_images(spark, PHOTOS)
photos.printSchema()

# %% first_rows
named = photos.withColumn("photo", F.substring_index("path", "/", -1))
named.select("photo", "label", "length").orderBy("photo", "label").show(8, truncate=False)

# %% labels [markdown] lang="en"
# ## 4. Labels
#
# Two rules for plots on EMR: `%matplot plt` must be the last line of its cell, and the first line
# must not be `%%local`. The driver draws the figure, with its own matplotlib.

# %% labels [markdown] lang="fr"
# ## 4. Les étiquettes
#
# Deux règles pour les figures sur EMR : `%matplot plt` doit être la dernière ligne de sa cellule,
# et la première ne doit pas être `%%local`. C'est le pilote qui trace la figure, avec son propre
# matplotlib.

# %% balance
per_class = dict(photos.groupBy("label").count().collect())
plots.class_balance(per_class, figure=plt.figure())
# %matplot plt

# %% about_balance [markdown] lang="en"
# Every class has 100 photos. No class is thin, and accuracy is a fair measure: always naming one
# class would be right for one photo in six.

# %% about_balance [markdown] lang="fr"
# Chaque classe compte 100 photos. Aucune n'est sous-représentée, et l'exactitude est une mesure
# honnête : répondre toujours la même classe ne donnerait raison qu'une fois sur six.

# %% contact_sheet
examples = pomona.spark.sample_images(photos, per_label=4).orderBy("label", "path").toPandas()
plots.contact_sheet(examples["content"], examples["label"], figure=plt.figure())
# %matplot plt

# %% about_contact_sheet [markdown] lang="en"
# A class is one fruit, turned in front of a white background and photographed from all sides, so
# photos of a class differ little from each other. Colours tell most classes apart, but not all:
# cherry and apple are both red, and the fruit that is named lemon is orange.

# %% about_contact_sheet [markdown] lang="fr"
# Une classe correspond à un seul fruit, que l'on fait tourner devant un fond blanc et que l'on
# photographie sous tous les angles : les photos d'une même classe se ressemblent donc beaucoup. La
# couleur distingue la plupart des classes, mais pas toutes : la cerise et la pomme sont rouges, et
# le fruit appelé citron (`lemon`) est orange.

# %% features [markdown] lang="en"
# ## 5. Features
#
# `featurize_udf` decodes a photo, resizes it exactly as Pillow does and runs the network: it takes
# bytes and returns an array of floats. Spark sends the model from S3 to the executors. Here are the
# features of five photos:

# %% features [markdown] lang="fr"
# ## 5. Les caractéristiques
#
# `featurize_udf` décode une photo, la redimensionne exactement comme Pillow et lui applique le
# réseau : elle prend des octets et rend un tableau de nombres. Spark transmet le modèle de S3 aux
# exécuteurs. Voici les caractéristiques de cinq photos :

# %% look
featurize = pomona.spark.featurize_udf(MODEL)
few = pomona.spark.sample_images(photos).limit(5)
few = few.select("label", featurize("content").alias("features"))
few.select("label", F.size("features"), F.slice("features", 1, 3)).show(truncate=False)

# %% write [markdown] lang="en"
# Now featurize all photos and **write the features to S3 immediately**: Spark would otherwise
# compute the column again for every action below. If this cell is interrupted and run again, it
# continues with the features that exist; new photos are added. A photo that cannot be read is a row
# with an error and no features.
#
# Watch it in the Spark UI (YARN's page on port 8088, *ApplicationMaster*; after the run, the
# history server on port 18080). The jobs of this cell are described as *Pomona: featurize 600
# photos, chunk 1 of 1* and then *Pomona: write the features in 1 file(s)*. Jobs of plain Spark are
# named after the line that started them, such as *showString at …*;
# `spark.sparkContext.setJobDescription("…")` gives them a description.

# %% write [markdown] lang="fr"
# On calcule maintenant les caractéristiques de toutes les photos et on les **écrit aussitôt sur
# S3** : sinon, Spark recalculerait la colonne à chacune des actions qui suivent. Si cette cellule
# est interrompue puis relancée, elle reprend là où elle s'était arrêtée ; les nouvelles photos
# s'ajoutent. Une photo illisible donne une ligne avec une erreur, sans caractéristiques.
#
# Suivez le calcul dans l'interface de Spark (page de YARN sur le port 8088, lien
# *ApplicationMaster* ; après l'exécution, serveur d'historique sur le port 18080). Les jobs de
# cette cellule s'intitulent *Pomona: featurize 600 photos, chunk 1 of 1*, puis *Pomona: write the
# features in 1 file(s)*. Ceux de Spark lui-même portent le nom de la ligne qui les a lancés, comme
# *showString at …* ; `spark.sparkContext.setJobDescription("…")` leur donne un intitulé.

# %% featurize
written = pomona.spark.write_features(photos, f"{RESULTS}/features", model=MODEL)
print(
    {"photos": written.photos, "featurized": written.featurized, "errors": written.errors},
    written.model_name,
)

# %% read_features
features = pomona.spark.read_features(spark, written.uri)
features.printSchema()
features.groupBy("error").count().show(truncate=False)

# %% pca [markdown] lang="en"
# ## 6. PCA
#
# One pass over the features gives the whole variance curve. The model keeps the fewest components
# that explain 95% of the variance.

# %% pca [markdown] lang="fr"
# ## 6. L'ACP
#
# Une seule lecture des caractéristiques donne toute la courbe de variance. Le modèle garde le plus
# petit nombre de composantes qui expliquent 95 % de la variance.

# %% fit
pca = pomona.spark.fit_pca(features, variance=0.95)
print(
    {
        "k": pca.k,
        "of": pca.mean.size,
        "variance": round(pca.variance, 3),
        "k_for(0.8)": pca.k_for(0.8),
    }
)

# %% curve
plots.variance_curve(pca.curve, pca.k, figure=plt.figure())
# %matplot plt

# %% about_curve [markdown] lang="en"
# The curve rises steeply and then flattens: 6 components explain 80% of the variance and 36 explain
# 95%, while 99% would take 141. So 36 numbers stand for 1,280 at little loss, and most of the 1,280
# say the same things about these six fruits.

# %% about_curve [markdown] lang="fr"
# La courbe monte très vite puis s'aplatit : 6 composantes expliquent 80 % de la variance et 36 en
# expliquent 95 %, alors qu'il en faudrait 141 pour atteindre 99 %. On remplace donc 1 280 nombres
# par 36 sans perdre grand-chose : pour ces six fruits, la plupart des caractéristiques se répètent.

# %% parquet [markdown] lang="en"
# ## 7. Parquet on S3

# %% parquet [markdown] lang="fr"
# ## 7. L'écriture en Parquet sur S3

# %% project
projected = pca.project(features.select("path", "label", "features"))
projected.write.mode("overwrite").parquet(f"{RESULTS}/pca")
pca.model.write().overwrite().save(f"{RESULTS}/pca_model")

# %% back [markdown] lang="en"
# ## 8. Read back and check
#
# Every photo that could be read is there once, with its label and all of its components.

# %% back [markdown] lang="fr"
# ## 8. Relecture et vérification
#
# Chaque photo lisible s'y trouve une seule fois, avec son étiquette et toutes ses composantes.

# %% check
reduced = spark.read.parquet(f"{RESULTS}/pca")
reduced.printSchema()
one_each = reduced.dropDuplicates(["label"]).orderBy("label")
one_each.select("label", F.slice("pca", 1, 3)).show(8, truncate=False)

readable = features.where("error IS NULL")
assert reduced.where(F.size("pca") != pca.k).count() == 0
assert reduced.select("path", "label").exceptAll(readable.select("path", "label")).count() == 0
assert reduced.count() == readable.count() == written.photos - written.errors

# %% picture [markdown] lang="en"
# ## 9. The photos on the first two components
#
# The driver receives only two numbers per photo.

# %% picture [markdown] lang="fr"
# ## 9. Les photos sur les deux premières composantes
#
# Le pilote ne reçoit que deux nombres par photo.

# %% scatter
points = reduced.select("label", F.slice("pca", 1, 2).alias("pca")).toPandas()
shares = pca.explained_variance_ratio
plots.components_scatter(points["pca"], points["label"], shares, figure=plt.figure())
# %matplot plt

# %% about_scatter [markdown] lang="en"
# The first component sets the raspberries apart and the second the coconuts, which look like no
# other class. The lemons lie on their own beside the rest; mangoes, apples and cherries touch, and
# apples and cherries, both red, overlap. That is no verdict: the two components hold 47% of the
# variance, and the classifier below uses all of the features.

# %% about_scatter [markdown] lang="fr"
# La première composante isole les framboises, la deuxième les noix de coco, qui ne ressemblent à
# aucune autre classe. Les citrons forment un groupe à part ; mangues, pommes et cerises se
# touchent, et les pommes et les cerises, toutes rouges, se chevauchent. Ce n'est pas un verdict :
# ces deux composantes ne portent que 47 % de la variance, et le classifieur entraîné plus bas
# utilise toutes les caractéristiques.

# %% all [markdown] lang="en"
# ## 10. Everything in one call
#
# `pipeline.run` does the work of sections 3 to 7; `make emr-run` submits it as a step. Existing
# features are not computed again, as the second number says. The sections below read its results.

# %% all [markdown] lang="fr"
# ## 10. Tout en un seul appel
#
# `pipeline.run` fait le travail des sections 3 à 7 ; `make emr-run` le soumet comme étape du
# cluster. Les caractéristiques qui existent ne sont pas recalculées : c'est ce que dit le deuxième
# nombre. Les sections suivantes lisent ses résultats.

# %% run
done = pipeline.run(spark, PHOTOS, RESULTS, model=MODEL, progress=False)
print({"photos": done.photos, "featurized": done.featurized, "k": done.k})

# %% thumbnails [markdown] lang="en"
# ## 11. Rows with their photos
#
# `show_photos` reads only the photos of the rows that it shows. In Jupyter on one machine it
# displays a table with thumbnails. Livy transfers only text, so here the thumbnails go into a
# contact sheet, in a cell of its own, because `%matplot` discards the text that its cell prints.

# %% thumbnails [markdown] lang="fr"
# ## 11. Des lignes avec leurs photos
#
# `show_photos` ne lit que les photos des lignes affichées. Dans Jupyter, sur une seule machine,
# elle affiche un tableau avec des vignettes. Livy ne transmet que du texte : ici, les vignettes
# vont donc dans une planche-contact, dans une cellule à part, car `%matplot` efface le texte que sa
# cellule affiche.

# %% table
by_label = features.select("path", "label", "features", "error").dropDuplicates(["label"])
table = pomona.spark.show_photos(by_label.orderBy("label"))
print(table)

# %% table_photos
plots.contact_sheet(table.thumbnails, [row.label for row in table.rows], figure=plt.figure())
# %matplot plt

# %% about_table [markdown] lang="en"
# A feature says how strongly a pattern that the network knows is present in the photo. None is
# negative and many are zero: the last layer of this network cuts off everything below zero.

# %% about_table [markdown] lang="fr"
# Une caractéristique dit avec quelle force un motif connu du réseau est présent dans la photo.
# Aucune n'est négative et beaucoup sont nulles : la dernière couche de ce réseau coupe tout ce qui
# est au-dessous de zéro.

# %% classifier [markdown] lang="en"
# ## 12. A classifier
#
# Neighbouring photos of a turning fruit are near-duplicates, so a test on photos drawn at random is
# too easy: the classifier has all but seen them. It is therefore tested twice, the second time on
# photos whose near-duplicates are kept out of the training set. The saved classifier is then
# trained on all photos. It takes photos and returns labels, and plain PySpark loads it.
# `classifier=` may also be `svm` or `forest`; the command is `pomona train RESULTS`.

# %% classifier [markdown] lang="fr"
# ## 12. Un classifieur
#
# Les photos voisines d'un fruit qui tourne sont presque identiques : un test sur des photos tirées
# au hasard est donc trop facile, puisque le classifieur les a pour ainsi dire déjà vues. Il est
# testé deux fois, la seconde sur des photos dont les quasi-doublons sont exclus de l'apprentissage.
# Le classifieur enregistré est ensuite entraîné sur toutes les photos. Il prend des photos et rend
# des étiquettes, et PySpark seul suffit à le charger. `classifier=` peut aussi valoir `svm` ou
# `forest` ; la commande est `pomona train RESULTS`.

# %% train
trained = pomona.spark.train(spark, RESULTS, classifier="logistic", model=MODEL)
for name, test in trained.holdouts.items():
    if test is not None:
        print(name, {"photos": test.test, "accuracy": round(test.accuracy, 3)})

# %% new_photos [markdown] lang="en"
# Both tests come out the same: these six fruits are easy to tell apart, even in views that the
# classifier has not seen. It says nothing about other fruits of the same kind, of which there is no
# photo here.
#
# `predict` labels photos and writes the labels as Parquet. These photos are the training set, so
# the interesting ones are those that the classifier is least sure of.

# %% new_photos [markdown] lang="fr"
# Les deux tests donnent le même résultat : ces six fruits sont faciles à distinguer, même sous des
# angles que le classifieur n'a jamais vus. Cela ne dit rien d'autres fruits de la même espèce, dont
# aucun n'a été photographié ici.
#
# `predict` étiquette des photos et écrit les étiquettes en Parquet. Ces photos sont celles de
# l'apprentissage : les plus intéressantes sont donc celles dont le classifieur est le moins sûr.

# %% predict
labelled = pomona.spark.predict(spark, trained.model, PHOTOS, f"{RESULTS}/labels", overwrite=True)
print({"labels of folders": labelled.named, "same label": labelled.agreeing})
labels = spark.read.parquet(labelled.uri).where("error IS NULL")
doubtful = labels.select("path", "label", "predicted", "probability").orderBy("probability")
unsure = pomona.spark.show_photos(doubtful, 6)
print(unsure)

# %% predict_photos
plots.contact_sheet(unsure.thumbnails, [row.predicted for row in unsure.rows], figure=plt.figure())
# %matplot plt

# %% about_predict [markdown] lang="en"
# All 600 photos get the label of their folder. The six that are least certain are all cherries, and
# even they have probabilities of 95% to 97%.

# %% about_predict [markdown] lang="fr"
# Les 600 photos reçoivent l'étiquette de leur dossier. Les six les moins sûres sont toutes des
# cerises, et leur probabilité est malgré tout de 95 % à 97 %.

# %% similar [markdown] lang="en"
# ## 13. The nearest photos
#
# Here are the photos nearest to the one that the classifier is least sure of, which comes first
# itself. Distances are cosine distances between features, and the search is exact. `pomona similar
# RESULTS PHOTO` does the same, also for photos outside the set.

# %% similar [markdown] lang="fr"
# ## 13. Les photos les plus proches
#
# Voici les photos les plus proches de celle dont le classifieur est le moins sûr, qui vient
# elle-même en tête. Les distances sont des distances cosinus entre caractéristiques, et la
# recherche est exacte. `pomona similar RESULTS PHOTO` fait de même, y compris pour une photo
# extérieure au jeu.

# %% nearest
results = pomona.spark.SparkResults(spark, RESULTS)
vector = similar.vector_of(results, unsure.rows[0].path)
nearest = similar.nearest(results, vector, 8)
near = pomona.spark.show_photos(spark.createDataFrame(nearest))
print(near)

# %% nearest_photos
plots.contact_sheet(near.thumbnails, [row.label for row in near.rows], figure=plt.figure())
# %matplot plt

# %% about_nearest [markdown] lang="en"
# All of them are cherries, and the numbers in their names are close: they are views of the same
# turn, a few degrees apart.

# %% about_nearest [markdown] lang="fr"
# Ce sont toutes des cerises, et les numéros de leurs noms se suivent : ce sont des vues d'une même
# rotation, à quelques degrés d'écart.

# %% findings_text [markdown] lang="en"
# ## 14. Findings
#
# `findings.check` looks at all photos for what a person should see: labels that the other photos
# contradict, near-duplicates, classes of few photos, and photos that are broken, turned, blurred,
# dark, tiny or blank. `pomona check RESULTS` does the same.

# %% findings_text [markdown] lang="fr"
# ## 14. Les anomalies
#
# `findings.check` cherche dans toutes les photos ce qu'une personne devrait regarder : étiquettes
# que les autres photos contredisent, quasi-doublons, classes trop petites, photos illisibles,
# tournées, floues, sombres, minuscules ou vides. `pomona check RESULTS` fait de même.

# %% findings
found = findings.check(results)
print({group.kind: group.total for group in found.groups})

# %% suspects
rows = [(each.path, each.label, each.kind, each.other_path.split("/")[-1]) for each in found]
suspects = spark.createDataFrame(rows, "path string, label string, finding string, like string")
first = pomona.spark.show_photos(suspects, 6)
print(first)

# %% suspects_photos
plots.contact_sheet(first.thumbnails, [row.finding for row in first.rows], figure=plt.figure())
# %matplot plt

# %% about_suspects [markdown] lang="en"
# No label is suspect, and no photo is unreadable, blurred or dark: the set is clean. But 92 of its
# 600 photos are near-duplicates of others. Most are views of a few degrees' difference, as the
# numbers in their names show (38 beside 37). The 8 outliers are the photos that resemble their
# class least; they are worth a look, not a decision.

# %% about_suspects [markdown] lang="fr"
# Aucune étiquette n'est suspecte, aucune photo n'est illisible, floue ou sombre : le jeu est
# propre. Mais 92 de ses 600 photos sont presque identiques à d'autres. La plupart sont des vues à
# quelques degrés d'écart, comme le montrent les numéros de leurs noms (38 à côté de 37). Les 8
# valeurs aberrantes (`outlier`) sont les photos qui ressemblent le moins à leur classe : elles
# méritent un coup d'œil, pas une décision.

# %% report [markdown] lang="en"
# ## 15. The report
#
# One page shows all of this, to click, filter and rotate. The nodes do not have the packages that
# draw it, so write it elsewhere: `pomona report s3://YOUR-BUCKET/results`, on a machine with
# PySpark, the wheel with its extras `report` and `spark`, and permission to read and write the
# bucket. The page is `results/report/index.html` and opens in any browser; `--language fr` makes it
# French.

# %% report [markdown] lang="fr"
# ## 15. Le rapport
#
# Une seule page montre tout cela : on y clique, on filtre, on fait tourner les cartes. Les nœuds
# n'ont pas les paquets qui la dessinent ; écrivez-la donc ailleurs : `pomona report
# s3://YOUR-BUCKET/results --language fr`, sur une machine qui a PySpark, le paquet Pomona avec ses
# extras `report` et `spark`, et le droit de lire et d'écrire dans le bucket. La page
# `results/report/index.html` s'ouvre dans n'importe quel navigateur.

# %% decisions [markdown] lang="en"
# ## 16. Decisions
#
# Findings are for a person to decide on, usually in the column `decision` of the report's
# `findings.csv`: `leave out`, `relabel: NAME` or `keep`. Here every near-duplicate is left out, so
# that no photo counts twice. The run takes the decisions and keeps the features that it has: the
# second number is 0.

# %% decisions [markdown] lang="fr"
# ## 16. Les décisions
#
# C'est à une personne de trancher, d'ordinaire dans la colonne `decision` du fichier `findings.csv`
# du rapport : `leave out` (écarter), `relabel: NOM` (changer d'étiquette) ou `keep` (garder). Ici,
# on écarte tous les quasi-doublons, pour qu'aucune photo ne compte deux fois. L'exécution applique
# les décisions et garde les caractéristiques déjà calculées : le deuxième nombre est 0.

# %% decide
twins = [each.path for each in found if each.kind == "duplicate"]
decided = pd.DataFrame({"path": twins, "decision": "leave out"}).drop_duplicates()
decided.to_csv("decisions.csv", index=False)
done = pipeline.run(spark, PHOTOS, RESULTS, model=MODEL, decisions="decisions.csv", progress=False)
print({"photos": done.photos, "featurized": done.featurized, "k": done.k}, done.decided)

# %% about_decide [markdown] lang="en"
# Of 600 photos, 508 remain. They vary more than before, for 95% of the variance now takes 37
# components instead of 36. Without the file of decisions, the next run takes all photos again.

# %% about_decide [markdown] lang="fr"
# Sur 600 photos, il en reste 508. Elles sont plus variées qu'avant, puisqu'il faut désormais 37
# composantes au lieu de 36 pour expliquer 95 % de la variance. Sans le fichier de décisions,
# l'exécution suivante reprend toutes les photos.

# %% end [markdown] lang="en"
# **A cluster costs money until it is terminated:** run `make emr-down` when you are done.

# %% end [markdown] lang="fr"
# **Un cluster coûte de l'argent tant qu'il n'est pas arrêté :** lancez `make emr-down` quand vous
# avez terminé.
